"""A dispatcher on a journal and an API server at the wire, and the triggers that it knows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine

from receiver.clients.cluster import Cluster
from receiver.core.filters import PushFilter
from receiver.core.params import ParamReader, ParamRule
from receiver.core.triggers import Trigger
from receiver.errors import OutageError
from receiver.journal.changes import Change
from receiver.journal.jobs import Jobs
from receiver.journal.schema import jobs
from receiver.journal.writer import BatchWriter
from receiver.work.dispatch import Dispatcher, Limits
from tests.support.api_server import NAMESPACE, ApiServer
from tests.support.journals import NOW, REPOSITORY, rows

DAY = 86_400.0
LEASE = 10.0


def trigger(
    name: str = "striv",
    *,
    branches: Sequence[str] = ("**",),
    max_active: int | None = None,
    prefix: str = "striv-",
) -> Trigger:
    """A trigger on all branches, whose template has one parameter."""
    spec = {"params": [{"name": "revision", "value": ""}]}
    return Trigger(
        name=name,
        repository=REPOSITORY,
        filter=PushFilter.build(branches=list(branches)),
        reader=ParamReader([ParamRule(name="revision", source="head_sha", default=None)]),
        template={
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "metadata": {"generateName": prefix},
            "spec": spec,
        },
        name_prefix=prefix,
        namespace=NAMESPACE,
        skip_markers=True,
        max_active=max_active,
    )


class Bench:
    """A dispatcher on a journal and a server, with a clock of its own."""

    def __init__(self, engine: Engine, server: ApiServer, cluster: Cluster) -> None:
        self.engine, self.server, self.cluster = engine, server, cluster
        self.now = NOW
        self.rung = threading.Event()
        self.jobs = Jobs(engine)
        self.recorder: BatchWriter[Change, bool] = BatchWriter(self.jobs.apply)
        self.dispatchers: list[Dispatcher] = []

    def dispatcher(self, *triggers: Trigger, concurrency: int = 4) -> Dispatcher:
        """Make a worker's dispatcher; at the end it is closed."""
        self.pool = ThreadPoolExecutor(concurrency)
        made = Dispatcher(
            jobs=self.jobs,
            recorder=self.recorder,
            cluster=self.cluster,
            triggers=triggers or (trigger(),),
            limits=Limits(concurrency=concurrency, lease_seconds=LEASE, give_up_days=3.0),
            clock=lambda: self.now,
            ring=self.rung.set,
            pool=self.pool,
        )
        self.dispatchers.append(made)
        return made

    def run(self, *triggers: Trigger) -> dict[str, Any]:
        """Let a worker take one step to its end; return the first job."""
        dispatcher = self.dispatcher(*triggers)
        dispatcher.step()
        self.pool.shutdown()
        dispatcher.close()
        return self.job()

    def lose_cluster(self, dispatcher: Dispatcher, *, seconds_ago: float) -> None:
        """Have a dispatcher find the cluster away so long ago."""
        now, self.now = self.now, self.now - seconds_ago
        dispatcher.availability.lost(OutageError("away"))
        self.now = now

    def held_post(self) -> tuple[threading.Event, threading.Event]:
        """Hold every creation up; return what is set when one has come, and what lets all go on."""
        inside, go_on = threading.Event(), threading.Event()
        post = self.server.post

        def slow(run: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            inside.set()
            assert go_on.wait(10)
            return post(run)

        self.server.post = slow  # type: ignore[method-assign]  # the fake behaves otherwise in this one test
        return inside, go_on

    def wait_idle(self) -> None:
        """Return when a dispatcher with one thread has done what it was given."""
        self.pool.submit(int).result(10)

    def job(self) -> dict[str, Any]:
        """Return the row of the first job."""
        return rows(self.engine, jobs)[0]

    def close(self) -> None:
        """Stop everything."""
        for dispatcher in self.dispatchers:
            dispatcher.close()
        self.recorder.close()
        self.cluster.close()
