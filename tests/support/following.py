"""A follower on a journal and an API server at the wire, and the runs that it is told of."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from receiver.clients.cluster import Cluster
from receiver.core.identity import run_name
from receiver.core.pipelinerun import KEY, MANAGED_BY
from receiver.errors import TamperedError
from receiver.journal.changes import Change, started
from receiver.journal.jobs import Jobs
from receiver.journal.schema import FINISHED, jobs
from receiver.journal.writer import BatchWriter
from receiver.settings.model import ClusterSettings
from receiver.work.follow import Follower
from tests.support.api_server import NAMESPACE
from tests.support.journals import NOW, TRIGGER, delivery, rows, run_sql, take
from tests.support.waiting import wait_until
from tests.support.watch_server import Object, WatchServer

OTHER, OTHER_NAMESPACE = "other", "a-namespace-before"
NEVER_SECONDS = 3_600.0


def ended(run: Object, *, good: bool = True, reason: str = "", message: str = "Tasks Completed: 6") -> Object:
    """Return the run with an outcome."""
    reason = reason or ("Succeeded" if good else "Failed")
    condition = {"type": "Succeeded", "status": str(good), "reason": reason, "message": message}
    children = [{"kind": "TaskRun", "name": "a-task", "pipelineTaskName": "a-task"}]
    return {**run, "status": {"conditions": [condition], "childReferences": children}}


def with_metadata(run: Object, **changes: Any) -> Object:
    """Return the run with these fields of its metadata replaced."""
    return {**run, "metadata": {**run["metadata"], **changes}}


def failed_taskrun(run: Object, task: str) -> Object:
    """Return a TaskRun of the run that failed."""
    labels = {"tekton.dev/pipelineRunUID": run["metadata"]["uid"], "tekton.dev/pipelineTask": task}
    condition = {"type": "Succeeded", "status": "False", "reason": "Failed", "lastTransitionTime": "2026-11-02"}
    return {"metadata": {"name": f"run-{task}", "labels": labels}, "status": {"conditions": [condition]}}


class Bench:
    """A follower on a journal and a server. The clock stands still; the triggers are `striv` and, elsewhere, `other`."""

    def __init__(self, engine: Engine, server: WatchServer, folder: Path) -> None:
        self.engine, self.server, self.folder = engine, server, folder
        self.jobs = Jobs(engine)
        self.recorder: BatchWriter[Change, bool] = BatchWriter(self.jobs.apply)
        self.connect(read_timeout_seconds=5.0)
        self.reported: list[str] = []
        self.tampered: list[TamperedError] = []
        self.namespaces = {TRIGGER: NAMESPACE}
        self.unforeseen = False
        self.make()

    def connect(self, *, read_timeout_seconds: float) -> None:
        """Make a way to the server, whose port may be a proxy's meanwhile."""
        settings = ClusterSettings(
            kubeconfig=str(self.server.kubeconfig(self.folder)), read_timeout_seconds=read_timeout_seconds
        )
        self.cluster = Cluster(settings, folder=self.folder, connections=8)

    def make(self, *, relist_seconds: float = NEVER_SECONDS) -> None:
        """Make another follower, as the next process would."""
        self.stopping = threading.Event()
        self.follower = Follower(
            jobs=self.jobs,
            recorder=self.recorder,
            cluster=self.cluster,
            namespaces=self.namespaces,
            relist_seconds=relist_seconds,
            clock=lambda: NOW + 5,
            stopping=self.stopping,
            report_ended=self.reported.append,
            report_tampered=self.tampered.append,
        )
        self.threads: list[threading.Thread] = []

    def start(self, *, relist_seconds: float = NEVER_SECONDS, watching: bool = True) -> None:
        """Start all threads of a new follower; return when it watches, if it can."""
        self.server.close()
        self.make(relist_seconds=relist_seconds)
        self.threads = self.follower.threads()
        for thread in self.threads:
            thread.start()
        if watching:
            self.wait_watching()

    def wait_watching(self) -> None:
        """Return when every namespace is watched."""
        number = len(set(self.namespaces.values()))
        wait_until(lambda: self.server.watching == number, what="the watch")

    def join(self) -> None:
        """Return when all threads have ended."""
        for thread in self.threads:
            thread.join(10)
        assert [thread.name for thread in self.threads if thread.is_alive()] == []

    def stop(self) -> None:
        """Stop the follower; an API server ends a watch after a minute at the latest, here it does so now."""
        self.stopping.set()
        wait_until(self._has_ended, what="all threads to end")

    def _has_ended(self) -> bool:
        self.server.close()
        return not any(thread.is_alive() for thread in self.threads)

    def close(self) -> None:
        """Stop everything."""
        self.stop()
        self.recorder.close()
        self.cluster.close()

    def run(self, seed: str, *, trigger: str = TRIGGER, is_known: bool = True) -> Object:
        """Return a run that has begun, of a new job, which says so unless its run is not known yet."""
        take(self.engine, delivery(seed, triggers=(trigger,)))
        (job,) = self.jobs.claim(now=NOW, limit=1, lease_seconds=10.0)
        name = run_name(f"{trigger}-", job.key)
        metadata = {
            "name": name,
            "namespace": self.namespaces.get(trigger, NAMESPACE),
            "uid": f"uid-{seed}",
            "labels": dict(MANAGED_BY),
            "annotations": {KEY: job.key.hex()},
        }
        self.begun = started(job, run_name=name, run_uid=f"uid-{seed}", at=NOW)
        if is_known:
            self.tell_begun(self.begun)
        run = {"metadata": metadata, "status": {"conditions": [{"type": "Succeeded", "status": "Unknown"}]}}
        self.server.put(run)
        return run

    def tell_begun(self, begun: Change) -> None:
        """Let the journal know that a run has begun."""
        assert self.recorder.submit(begun).result()

    def job(self, run: Object) -> dict[str, Any]:
        """Return the row of the run's job."""
        (row,) = [row for row in rows(self.engine, jobs) if row["guid"] and row["run_name"] == run["metadata"]["name"]]
        return row

    def outcome(self, run: Object) -> tuple[str, str, str | None]:
        """Wait for the outcome of the run's job and return its result, reason and failed task."""
        job = wait_until(lambda: self.finished(run), what=f"the outcome of {run['metadata']['name']}")
        return job["result"], job["reason"], job["failed_task"]

    def wait_reported(self, results: list[str]) -> None:
        """Wait until these and no other results have been reported: that comes just after the journal has them."""
        wait_until(lambda: self.reported == results, what=f"reports of {results}")

    def finished(self, run: Object) -> dict[str, Any] | None:
        """Return the row of the run's job when it has an outcome."""
        job = self.job(run)
        return job if job["state"] == FINISHED else None

    def pass_by(self) -> None:
        """Return when the follower has dealt with all that its watch was told before."""
        last = self.run(f"last {len(rows(self.engine, jobs))}")
        self.server.put(ended(last))
        self.outcome(last)


def forge_finished(bench: Bench, run: Object, result: str) -> None:
    """Have the journal say of a run's job that it ended so, behind the receiver's back."""
    job = bench.job(run)
    run_sql(
        bench.engine,
        f"UPDATE jobs SET state = 'finished', result = '{result}', failed_task = NULL WHERE id = {job['id']}",  # noqa: S608 - our own
    )
