"""Two pods on one PostgreSQL, somebody who redelivers until a push is taken, and what has to hold in the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from sqlalchemy import Engine

from receiver.journal.schema import jobs, pushes, transitions
from tests.controlplane.api import Api
from tests.support.journals import count, rows
from tests.support.load import Pushed, send
from tests.support.planes import Planes
from tests.support.postgres import OWNER, SERVE, WORK, Database
from tests.support.waiting import wait_until

LEASE_SECONDS = 3
V1 = "tekton.dev/v1"


class Replicas:
    """Two pods, each with both planes, as k8s/overlays/postgresql has them: each plane connects as its own role."""

    def __init__(self, folder: Path, database: Database, *, kubeconfig: Path, namespace: str) -> None:
        self.database, self.namespace = database, namespace
        changes: dict[str, dict[str, Any]] = {
            "journal": {"url": database.url_text(OWNER)},
            "work": {"lease_seconds": LEASE_SECONDS, "relist_seconds": 5},
        }
        self.pods = [
            Planes.prepare(folder / name, kubeconfig=kubeconfig, namespace=namespace, changes=changes) for name in "ab"
        ]

    def start(self) -> None:
        for pod in self.pods:
            for plane, role in (("serve", SERVE), ("work", WORK)):
                pod.start(plane, environment={"RECEIVER__JOURNAL__URL": self.database.url_text(role)})

    def stop(self) -> None:
        for pod in self.pods:
            pod.stop()

    def states(self, engine: Engine) -> Counter[str]:
        return Counter(row["state"] for row in rows(engine, jobs))

    def ready(self, pod: Planes) -> int:
        return requests.get(f"http://127.0.0.1:{pod.port}/readyz", timeout=10).status_code

    def expect_well(self) -> None:
        """Wait until all pods are ready again; none of their processes has ended meanwhile."""
        wait_until(lambda: {self.ready(pod) for pod in self.pods} == {200}, what="all pods to be ready")
        assert all(process.poll() is None for pod in self.pods for process in pod.processes.values())


class Persistent:
    """Threads that deliver each push, and redeliver what is refused, as a person at GitHub does who sees a 503.

    Each time it goes to another pod, as behind a Service. A context manager; gives up at its end.
    """

    def __init__(self, pods: Sequence[Planes], sent: Sequence[Pushed], *, threads: int = 8) -> None:
        self._pods, self._sent = pods, sent
        self._pool = ThreadPoolExecutor(threads)
        self._hurry = threading.Event()
        self._stop = threading.Event()
        self._delivering: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._delivering = [self._pool.submit(self._deliver, number) for number in range(len(self._sent))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._hurry.set()
        self._pool.shutdown(cancel_futures=True)

    def finish(self, *, seconds: float) -> None:
        """Redeliver without a pause from now on, and return when all pushes are acknowledged; raises TimeoutError."""
        self._hurry.set()
        for each in self._delivering:
            each.result(seconds)

    def _deliver(self, number: int) -> None:
        pushed, turn = self._sent[number], number
        while not pushed.acknowledged and not self._stop.is_set():
            send(self._pods[turn % len(self._pods)], pushed)
            turn += 1
            if not pushed.acknowledged:
                self._hurry.wait(0.5)


def assert_one_run_each(replicas: Replicas, api: Api, sent: Sequence[Pushed], *, seconds: float) -> None:
    """Wait until no job waits any more, then compare answers, journal and cluster."""
    with replicas.database.engine(WORK) as engine:
        wait_until(lambda: replicas.states(engine)["waiting"] == 0, what="all jobs to start", seconds=seconds)
        names = {name for pushed in sent for name in pushed.runs}
        assert all(len(pushed.runs) == 1 for pushed in sent)
        assert len(names) == len(sent)
        runs = [run["metadata"]["name"] for run in api.list(V1, "PipelineRun", namespace=replicas.namespace)]
        assert sorted(runs) == sorted(names)
        assert {row["run_name"] for row in rows(engine, jobs)} == names
        assert count(engine, pushes) == len(sent)
        begun = Counter(row["job_key"] for row in rows(engine, transitions) if row["to_state"] == "started")
        assert set(begun.values()) == {1}
