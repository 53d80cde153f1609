"""From run to outcome: a watch sees it at once, a list now and then sees what the watch missed.

The live PipelineRun is believed, no row: its uid has to be the one that the job recorded, and it has to carry the job's key.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from receiver.clients.cluster import Cluster
from receiver.clients.refusals import WatchExpiredError
from receiver.core.identity import run_name
from receiver.core.outcomes import DELETED, FAILED, Outcome, failed_task, read_outcome
from receiver.core.pipelinerun import KEY
from receiver.errors import NotFoundError, OutageError, PermanentError, TamperedError, TransientError
from receiver.journal.changes import Change, StartedJob, finished
from receiver.journal.jobs import Jobs
from receiver.journal.writer import BatchWriter
from receiver.work.facts import facts_of

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.5
_BREATH_SECONDS = 1.0  # between two watches at least
_PASSING = (TransientError, PermanentError)  # not TamperedError: whoever noticed that must stop
_SALTS = range(4)  # no run gets more salt
_PATIENCE_SECONDS = 30.0  # with a run that ended and whose job does not say yet that it started
_IDLE_SECONDS = 60.0  # between two lists at least, while no run is under way


class Follower:
    """Watches the runs of all namespaces that triggers use, and records how they end."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        recorder: BatchWriter[Change, bool],
        cluster: Cluster,
        namespaces: dict[str, str],
        relist_seconds: float,
        clock: Callable[[], float],
        stopping: threading.Event,
        report_ended: Callable[[str], None] = lambda _result: None,
        report_tampered: Callable[[TamperedError], None] = lambda _error: None,
    ) -> None:
        """`namespaces` maps a trigger's name to the namespace of its runs.

        `report_tampered` is told when the journal turns out to be forged; the thread that noticed it ends then.
        """
        self._jobs = jobs
        self._recorder = recorder
        self._cluster = cluster
        self._namespaces = namespaces
        self._relist_seconds = relist_seconds
        self._clock = clock
        self._stopping = stopping
        self._report_ended = report_ended
        self._report_tampered = report_tampered
        self._listed_at = -_IDLE_SECONDS
        self._ended: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def threads(self) -> list[threading.Thread]:
        """Return the threads to start: one watch a namespace, one that records, one that lists."""
        loops: dict[str, Callable[[], None]] = {"outcomes": self._record_forever, "relist": self._list_forever}
        for namespace in sorted(set(self._namespaces.values())):
            loops[f"watch-{namespace}"] = partial(self._watch_forever, namespace)
        return [
            threading.Thread(target=self._lasting, args=(loop,), name=name, daemon=True) for name, loop in loops.items()
        ]

    def _lasting(self, loop: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                loop()
            except TamperedError as error:
                self._report_tampered(error)
                return
            except Exception:  # noqa: BLE001 - whatever an answer looked like, outcomes have to be followed on
                _log.exception("following failed in an unforeseen way")
                self._stopping.wait(_BREATH_SECONDS)

    def _watch_forever(self, namespace: str) -> None:
        version = ""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if not version:
                    runs, version = self._cluster.list_runs(namespace)
                    self._offer(runs)
                for run, seen in self._cluster.watch_runs(namespace, version):
                    version = seen
                    if run is not None:
                        self._offer([run])
                    if self._stopping.is_set():
                        return
            except WatchExpiredError:
                version = ""
            except _PASSING as error:
                version = ""
                _log.warning("watch interrupted", extra={"namespace": namespace, "problem": str(error)})
                self._renew_connections(error)
            self._stopping.wait(max(0.0, _BREATH_SECONDS - (time.monotonic() - began)))

    def _renew_connections(self, error: Exception) -> None:
        """After an outage: with credentials that were perhaps renewed, since no push may come that would look.

        The other connections may have died without a word, too, and each would cost a time-out of its own.
        """
        if isinstance(error, OutageError):
            self._cluster.reconnect()

    def _offer(self, runs: Iterable[dict[str, Any]]) -> None:
        for run in runs:
            if run.get("deleted") or read_outcome(run) is not None:
                self._ended.put(run)

    def _record_forever(self) -> None:
        waiting: dict[str, tuple[dict[str, Any], float]] = {}
        while not self._stopping.is_set():
            until = time.monotonic() + _PATIENCE_SECONDS
            waiting |= {run["metadata"]["uid"]: (run, until) for run in self._taken()}
            if waiting:
                waiting = self._record_known(waiting)

    def _taken(self) -> list[dict[str, Any]]:
        found = []
        try:
            found.append(self._ended.get(timeout=_TICK_SECONDS))
            while True:
                found.append(self._ended.get_nowait())
        except queue.Empty:
            return found

    def _record_known(
        self, waiting: dict[str, tuple[dict[str, Any], float]]
    ) -> dict[str, tuple[dict[str, Any], float]]:
        """Record the ended runs whose jobs are known as started; return those that may have ended before that was written."""
        left = {uid: (run, until) for uid, (run, until) in waiting.items() if time.monotonic() < until}
        try:
            started = {(job.run_uid, job.key): job for job in self._jobs.started()}
            for uid, (run, _) in waiting.items():
                if job := started.get(_identity(run)):
                    if read_outcome(run) is None:
                        # A watch tells of a run that only lost the label as if it were deleted.
                        self._settle(job, None)
                    else:
                        self._record(job, run["metadata"]["namespace"], run)
                    left.pop(uid, None)
                elif uid not in left:
                    self._correct([run])
        except _PASSING as error:
            _log.warning("outcomes not recorded yet", extra={"problem": str(error)})
            self._renew_connections(error)
            self._stopping.wait(_TICK_SECONDS)
        return left

    def _correct(self, runs: Iterable[dict[str, Any]]) -> None:
        """Set right what the journal says of runs that ended otherwise: only a forged row can have said so."""
        ended = {
            _identity(run)[1]: (run, outcome)
            for run in runs
            if (outcome := read_outcome(run)) is not None and _is_original(run)
        }
        for job in self._jobs.contradicting({key: outcome.result for key, (_, outcome) in ended.items()}):
            metadata, outcome = ended[job.key][0]["metadata"], ended[job.key][1]
            facts = {**facts_of(job, run=metadata["name"]), "result": outcome.result}
            _log.error("journal contradicts the cluster and is set right", extra=facts)
            own = replace(job, run_name=metadata["name"], run_uid=metadata["uid"])
            self._record(own, metadata["namespace"], ended[job.key][0], corrects=True)

    def _list_forever(self) -> None:
        pause, is_repetition = self._relist_seconds, False
        while not self._stopping.wait(pause):
            pause = self._relist_seconds
            try:
                self.reconcile()
            except _PASSING as error:
                _log.warning("runs not listed", extra={"problem": str(error)})
                self._renew_connections(error)
                if isinstance(error, OutageError) and not is_repetition:
                    # Once more, with a new connection. What is really away is asked no more often than otherwise.
                    pause, is_repetition = min(pause, _BREATH_SECONDS), True
                    continue
            is_repetition = False

    def reconcile(self) -> None:
        """Compare every started job, and every outcome, with the cluster's own list.

        Raises ReceiverError when one of the two does not answer. What is refused for one namespace or one run is logged, and the
        others are compared all the same. While no run is under way there is less to compare, and it is done less often.
        """
        started = self._jobs.started()
        if not started and time.monotonic() - self._listed_at < _IDLE_SECONDS:
            return
        live: dict[str, dict[str, Any]] = {}
        refused: set[str | None] = set()
        for namespace in sorted(set(self._namespaces.values())):
            try:
                runs, _ = self._cluster.list_runs(namespace)
            except PermanentError as error:
                _log.warning("runs not listed", extra={"namespace": namespace, "problem": str(error)})
                refused.add(namespace)
            else:
                live |= {run["metadata"]["uid"]: run for run in runs}
        self._listed_at = time.monotonic()
        self._correct(live.values())
        for job in started:
            if self._namespaces.get(job.trigger) not in refused:
                self._settle(job, live.get(job.run_uid))

    def _settle(self, job: StartedJob, run: dict[str, Any] | None) -> None:
        namespace = self._namespaces.get(job.trigger)
        if namespace is None:
            self._finish(
                job, Outcome(DELETED, "TriggerRemoved", f"the trigger `{job.trigger}` is no longer configured")
            )
            return
        if run is None:
            # It may only have lost the label that the list selects by.
            try:
                run = self._cluster.get_run(namespace, job.run_name)
            except NotFoundError:
                run = {}
            except OutageError:
                raise
            except _PASSING as error:
                _log.warning("run not read", extra={**facts_of(job), "problem": str(error)})
                return
        if run.get("metadata", {}).get("uid") != job.run_uid:
            run = {"deleted": True, "metadata": {"namespace": namespace}}
        elif _identity(run) != (job.run_uid, job.key):
            self._finish(
                job, Outcome(DELETED, "NotOurs", f"the PipelineRun {job.run_name} does not carry this job's key")
            )
            return
        if run.get("deleted") or read_outcome(run) is not None:
            self._record(job, namespace, run)

    def _record(self, job: StartedJob, namespace: str, run: dict[str, Any], *, corrects: bool = False) -> None:
        outcome = read_outcome(run)
        if outcome is None:
            self._finish(job, Outcome(DELETED, "Deleted", "the PipelineRun was deleted before it ended"))
            return
        task = None
        # A run that failed before its first task has none to ask for.
        if outcome.result == FAILED and run["status"].get("childReferences"):
            task = self._failed_task(namespace, job)
        self._finish(job, Outcome(outcome.result, outcome.reason, outcome.message, task), corrects=corrects)

    def _failed_task(self, namespace: str, job: StartedJob) -> str | None:
        try:
            return failed_task(self._cluster.list_taskruns(namespace, job.run_uid))
        except PermanentError as error:
            # An outcome without the task is better than none, for this run and for those behind it.
            _log.warning("failed task not known", extra={**facts_of(job), "problem": str(error)})
            return None

    def _finish(self, job: StartedJob, outcome: Outcome, *, corrects: bool = False) -> None:
        change = finished(
            job,
            result=outcome.result,
            reason=outcome.reason,
            message=outcome.message,
            failed_task=outcome.failed_task,
            at=self._clock(),
            corrects=corrects,
        )
        if self._recorder.submit(change).result():
            self._report_ended(outcome.result)
            ending = {"result": outcome.result, "reason": outcome.reason, "failed_task": outcome.failed_task}
            _log.info("run ended", extra={**facts_of(job), **ending})


def _identity(run: dict[str, Any]) -> tuple[str, bytes]:
    """The run's uid and the key of the job that it was made for: a forged row cannot make both fit."""
    metadata = run["metadata"]
    try:
        key = bytes.fromhex((metadata.get("annotations") or {}).get(KEY, ""))
    except ValueError:
        key = b""
    return metadata["uid"], key


def _is_original(run: dict[str, Any]) -> bool:
    """Whether the run's name is made of its key. A copy, such as the Tekton Dashboard's rerun, carries the key as well."""
    name: str = run["metadata"]["name"]
    _, key = _identity(run)
    return name.endswith(tuple(run_name("", key, salt=salt) for salt in _SALTS))
