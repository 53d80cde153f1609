"""A cluster, a clock and workers that a test moves by hand: every interleaving of steps, faults and crashes can be played."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, cast

import greenlet

from receiver.clients.cluster import Cluster
from receiver.clients.refusals import TakenError
from receiver.core.pipelinerun import KEY, PREFIX
from receiver.core.triggers import Trigger
from receiver.errors import NotFoundError, OutageError, PermanentError, TransientError
from receiver.journal.changes import Change
from receiver.journal.jobs import Jobs
from receiver.journal.writer import BatchWriter
from receiver.work.dispatch import Dispatcher, Limits
from receiver.work.follow import Follower

NAMESPACE = "striv-ci"
LOST, RESET, LIMITED, BUSY, FAILED, TIMED_OUT = "lost", "reset", "limited", "busy", "failed", "timed-out"
FAULTS = (LOST, RESET, LIMITED, BUSY, FAILED, TIMED_OUT)
"""What can happen to one request: reply lost, connection reset, 429 with and without Retry-After, 500, 504 after success."""


class SimulatedCluster:
    """PipelineRuns with the interface of `Cluster`, and every fault that its adapter can report."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.created: Counter[str] = Counter()
        self.faults: deque[str] = deque()
        self.away = False
        self.webhook_down = False
        self.refusing = True
        self.sick: set[str] = set()
        self.asked: list[str] = []
        self._uids = 0

    def reconnect(self) -> None:
        """Nothing to forget."""

    def create_run(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """POST: a caller in a greenlet stops before and after it took effect."""
        ref = manifest["metadata"]["annotations"][PREFIX + "ref"]
        self.asked.append(ref)
        pause()
        fault = self.faults.popleft() if self.faults else ""
        if self.away or fault == RESET:
            raise OutageError("connection reset", in_doubt=True)
        if fault in (LIMITED, BUSY):
            raise TransientError("HTTP 429: slow down", retry_after_seconds=20.0 if fault == LIMITED else None)
        if fault == FAILED:
            raise TransientError("HTTP 500: etcd", in_doubt=True)
        if self.refusing and ref.endswith("/refused"):
            raise PermanentError("HTTP 403: not allowed")
        if self.webhook_down or ref in self.sick:
            raise OutageError("HTTP 500: failed calling webhook", in_doubt=True)
        run = self._stored(manifest)
        pause()
        if fault in (LOST, TIMED_OUT):
            raise OutageError("HTTP 504: time-out" if fault == TIMED_OUT else "the reply was lost", in_doubt=True)
        return run

    def _stored(self, manifest: dict[str, Any]) -> dict[str, Any]:
        name, key = manifest["metadata"]["name"], manifest["metadata"]["annotations"][KEY]
        if (found := self.objects.get(name)) is not None:
            if key_of(found) != key:
                raise TakenError(f"the name {name} belongs to another object")
            return found
        self.created[key] += 1
        self.objects[name] = self._with_uid(manifest)
        return self.objects[name]

    def _with_uid(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self._uids += 1
        return {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{self._uids}"}}

    def ask(self, _namespace: str) -> None:
        """GET next to nothing."""
        self._check()

    def get_run(self, _namespace: str, name: str) -> dict[str, Any]:
        """GET one."""
        self._check()
        if name not in self.objects:
            raise NotFoundError("HTTP 404")
        return self.objects[name]

    def list_runs(self, _namespace: str) -> tuple[list[dict[str, Any]], str]:
        """GET all of ours."""
        self._check()
        return [run for run in self.objects.values() if key_of(run)], "1"

    def list_taskruns(self, _namespace: str, _run_uid: str) -> list[dict[str, Any]]:
        """GET none."""
        self._check()
        return []

    def _check(self) -> None:
        if self.away:
            raise OutageError("connection refused", in_doubt=True)

    def plant(self, name: str) -> None:
        """Let somebody else have a name, unless it is taken."""
        self.objects.setdefault(name, self._with_uid({"metadata": {"name": name, "namespace": NAMESPACE}}))

    def running(self) -> list[dict[str, Any]]:
        """Our runs without an outcome."""
        return [run for run in self.objects.values() if key_of(run) and "status" not in run]

    def finish(self, name: str, *, good: bool) -> None:
        """Let a run end."""
        condition = {"type": "Succeeded", "status": str(good), "reason": "Completed" if good else "Failed"}
        self.objects[name] = {**self.objects[name], "status": {"conditions": [condition]}}

    def heal(self) -> None:
        """End all faults."""
        self.away = self.webhook_down = self.refusing = False
        self.sick.clear()
        self.faults.clear()


def key_of(run: dict[str, Any]) -> str | None:
    """The job key that a run carries."""
    return cast("str | None", run["metadata"].get("annotations", {}).get(KEY))


def pause() -> None:
    """Go back to whoever moves this greenlet; outside of one, go on."""
    parent = greenlet.getcurrent().parent
    if parent is not None:
        parent.switch()


class Steps(Executor):
    """A pool whose tasks run only when the test says so, up to their next pause."""

    def __init__(self) -> None:
        self.waiting: list[greenlet.greenlet] = []
        self.paused: list[greenlet.greenlet] = []
        self._futures: dict[greenlet.greenlet, Future[Any]] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a task."""
        future: Future[Any] = Future()

        def task() -> None:
            future.set_running_or_notify_cancel()
            future.set_result(fn(*args, **kwargs))

        made = greenlet.greenlet(task)
        self.waiting.append(made)
        self._futures[made] = future
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT002 - Executor's own
        """Forget what has not begun; what has goes on when the test says so."""
        assert cancel_futures
        assert not (wait and self.paused)
        for task in self.waiting:
            self._futures[task].cancel()
        self.waiting.clear()

    def move(self, index: int) -> None:
        """Start a task or take a begun one on, up to its next pause or its end."""
        tasks = self.paused + self.waiting
        task = tasks[index % len(tasks)]
        (self.paused if task in self.paused else self.waiting).remove(task)
        task.switch()
        if not task.dead:
            self.paused.append(task)


class SimulatedWorker:
    """What `receiver.work` makes a worker of, without its threads."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        recorder: BatchWriter[Change, bool],
        cluster: SimulatedCluster,
        triggers: tuple[Trigger, ...],
        clock: Callable[[], float],
        concurrency: int = 2,
    ) -> None:
        self.steps = Steps()
        self.dispatcher = Dispatcher(
            jobs=jobs,
            recorder=recorder,
            cluster=cast("Cluster", cluster),
            triggers=triggers,
            limits=Limits(concurrency=concurrency, lease_seconds=10.0, give_up_days=3.0),
            clock=clock,
            ring=lambda: None,
            pool=self.steps,
        )
        self.follower = Follower(
            jobs=jobs,
            recorder=recorder,
            cluster=cast("Cluster", cluster),
            namespaces={trigger.name: trigger.namespace for trigger in triggers},
            relist_seconds=30.0,
            clock=clock,
            stopping=threading.Event(),
        )

    @property
    def tasks(self) -> int:
        """How many attempts are waiting or have begun."""
        return len(self.steps.waiting) + len(self.steps.paused)
