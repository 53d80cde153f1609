"""The public plane's identity in other hands: what it can plant in the journal, and what comes of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, insert

from receiver.core.events import decode_push
from receiver.core.identity import job_key, push_keys
from receiver.journal.rows import Wanted, new_job_row
from receiver.journal.schema import jobs, pushes
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.support.journals import opened, rows
from tests.support.load import new_push, send
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.postgres import OWNER, SERVE, WORK, PostgreSQL
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid
from tests.support.waiting import wait_until

V1 = "tekton.dev/v1"
KEY = "striv-receiver.dev/key"


@dataclass
class Attack:
    """A running worker, and the journal as the public plane's identity has it."""

    planes: Planes
    api: Api
    namespace: str
    serve: Engine
    work: Engine
    environment: dict[str, str]
    older: frozenset[str]

    def start(self, *planes: str) -> None:
        for plane in planes:
            role = self.environment.get(plane)
            self.planes.start(plane, environment={"RECEIVER__JOURNAL__URL": role} if role else None)

    def start_playable(self) -> None:
        """Start both planes where runs can be played to their end."""
        make_pipeline(self.api, self.namespace)
        simplify(self.planes)
        self.start("serve", "work")

    def forge(self, content: bytes, *, stored: bytes | None = None, **changes: Any) -> bytes:
        """Plant a job for a payload, as the receiver would write it but for `changes`; return its key."""
        try:
            decoded = decode_push(content, with_files=False)
        except Exception:  # noqa: BLE001 - also for what is no push at all
            decoded = decode_push(encoded(seeded_push(content.hex()[:64])), with_files=False)
        push_key = changes.pop("push_key", push_keys(decoded, "").by_time)
        trigger = changes.get("trigger", "striv")
        key: bytes = changes.pop("job_key", job_key(push_key, trigger, changes.get("generation", 1)))
        row = new_job_row(
            key=key,
            push_key=push_key,
            wanted=Wanted(trigger, "striv-"),
            generation=1,
            push=decoded,
            guid=new_guid(),
            now=1.0,
        )
        packed = zlib.compress(content) if stored is None else stored
        planted = {"push_key": push_key, "guid": "", "received_at": 1.0, "body_bytes": 1, "body": packed}
        with self.serve.begin() as connection:
            connection.execute(insert(pushes).inline(), [planted])
            connection.execute(insert(jobs).inline(), [row | changes])
        return key

    def job(self, key: bytes) -> dict[str, Any]:
        (row,) = [row for row in rows(self.work, jobs) if row["job_key"] == key]
        return row

    def wait_settled(self) -> None:
        """Wait until the worker has looked at everything that was planted."""
        wait_until(lambda: all(row["state"] != "waiting" for row in rows(self.work, jobs)), what="all jobs", seconds=30)

    def runs(self) -> list[dict[str, Any]]:
        """All PipelineRuns of the whole cluster that carry a receiver's key and were not there before."""
        return [run for run in runs_with_key(self.api) if run["metadata"]["uid"] not in self.older]

    def expect_alive(self) -> None:
        """A push after all this still becomes a run."""
        pushed = new_push("after the attack")
        assert send(self.planes, pushed) == 202
        (name,) = pushed.runs
        wait_until(lambda: self.api.exists(V1, "PipelineRun", name, namespace=self.namespace), what="the next run")


def runs_with_key(api: Api) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = api.list(V1, "PipelineRun")
    return [run for run in runs if KEY in (run["metadata"].get("annotations") or {})]


@contextmanager
def on_sqlite(planes: Planes) -> Iterator[tuple[Engine, Engine, dict[str, str]]]:
    with opened(planes.folder) as engine:
        yield engine, engine, {}


@contextmanager
def on_postgresql(server: PostgreSQL) -> Iterator[tuple[Engine, Engine, dict[str, str]]]:
    with server.database() as database, database.engine(SERVE) as serve, database.engine(WORK) as work:
        roles = {"serve": SERVE, "work": WORK}
        urls = {plane: database.url_text(role) for plane, role in roles.items()}
        yield serve, work, urls | {"owner": database.url_text(OWNER)}


@contextmanager
def attacking(
    journal: AbstractContextManager[tuple[Engine, Engine, dict[str, str]]],
    planes: Planes,
    control_plane: ControlPlane,
    namespace: str,
) -> Iterator[Attack]:
    with journal as (serve, work, urls):
        if owner := urls.pop("owner", None):
            planes.environment["RECEIVER__JOURNAL__URL"] = owner
        try:
            older = frozenset(run["metadata"]["uid"] for run in runs_with_key(control_plane.api))
            yield Attack(planes, control_plane.api, namespace, serve, work, urls, older)
        finally:
            planes.stop()
