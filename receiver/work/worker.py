"""The private plane as a whole: one loop that dispatches, threads that follow, renew leases and prune."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from receiver.clients.cluster import Cluster
from receiver.core.triggers import Trigger
from receiver.errors import JournalError, ReceiverError, TamperedError
from receiver.journal.changes import Change
from receiver.journal.jobs import Jobs
from receiver.journal.wake import Alarm
from receiver.journal.writer import BatchWriter
from receiver.settings import WorkSettings
from receiver.work.dispatch import Dispatcher, Limits
from receiver.work.follow import Follower
from receiver.work.metrics import WorkMetrics

_log = logging.getLogger(__name__)
_RENEWALS = 3  # a lease is renewed this often before it would run out
_STUCK_SECONDS = 60.0
_LAST_WRITES_SECONDS = 2.0  # of the time for the end; a SQLite journal that is locked says so after 1.5 s


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of."""

    settings: WorkSettings
    triggers: tuple[Trigger, ...]
    jobs: Jobs
    cluster: Cluster
    alarm: Alarm
    metrics: WorkMetrics
    prune: Callable[[float], int]
    clock: Callable[[], float] = time.time


class Worker:
    """Runs until `stop`; every step it takes may be repeated by another worker."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stopping = threading.Event()
        self._stopped_at = 0.0
        self._stepped_at = time.monotonic()
        self._forged: TamperedError | None = None
        self._recorder: BatchWriter[Change, bool] = BatchWriter(parts.jobs.apply, name="recorder")
        settings = parts.settings
        self._dispatcher = Dispatcher(
            jobs=parts.jobs,
            recorder=self._recorder,
            cluster=parts.cluster,
            triggers=parts.triggers,
            limits=Limits(settings.concurrency, settings.lease_seconds, settings.give_up_days),
            clock=parts.clock,
            ring=parts.alarm.ring,
            report_started=parts.metrics.started,
        )
        self._follower = Follower(
            jobs=parts.jobs,
            recorder=self._recorder,
            cluster=parts.cluster,
            namespaces={trigger.name: trigger.namespace for trigger in parts.triggers},
            relist_seconds=settings.relist_seconds,
            clock=parts.clock,
            stopping=self._stopping,
            report_ended=self._ended,
            report_tampered=self._tampered,
        )

    def run(self) -> bool:
        """Dispatch until `stop` is called, finish what has begun and give the rest back; return whether all that could be done.

        The end takes `work.shutdown_seconds` at most from `stop` on, whoever does not answer: leases run out by themselves, and
        the next worker repeats what was not recorded. Raises TamperedError as soon as the journal turns out to be forged:
        nothing more is read from it or written to it.
        """
        renewing = threading.Thread(target=self._renew_forever, name="leases", daemon=True)
        pruning = threading.Thread(target=self._prune_forever, name="prune", daemon=True)
        for thread in (renewing, pruning, *self._follower.threads()):
            thread.start()
        while not self._stopping.is_set():
            self._stepped_at = time.monotonic()
            self._parts.alarm.wait(self._step())
        return self._finish()

    def _finish(self) -> bool:
        seconds = self._parts.settings.shutdown_seconds
        end = self._stopped_at + seconds
        reserved = min(_LAST_WRITES_SECONDS, seconds / 2)
        finished = self._dispatcher.finish(seconds=max(0.0, end - reserved - time.monotonic()))
        writing = threading.Thread(target=self._write_last, name="last-writes", daemon=True)
        writing.start()
        writing.join(max(0.0, end - time.monotonic()))
        return finished and not writing.is_alive()

    def _write_last(self) -> None:
        try:
            self._dispatcher.give_back()
        except ReceiverError as error:
            _log.warning("jobs not given back, their leases run out", extra={"problem": str(error)})
        self._recorder.close()

    def stop(self) -> None:
        """Ask `run` to return; safe in a signal handler."""
        self._stopped_at = time.monotonic()
        self._stopping.set()
        self._parts.alarm.ring()

    def healthy(self) -> bool:
        """Whether the loop turns. The cluster or the journal being away is no reason to restart this process."""
        return time.monotonic() - self._stepped_at < _STUCK_SECONDS

    def _step(self) -> float:
        try:
            if self._forged is not None:
                raise self._forged
            return self._dispatcher.step()
        except JournalError as error:
            _log.warning("journal away, jobs wait", extra={"problem": str(error)})
            return 1.0
        except TamperedError as error:
            _log.critical("journal forged, stopping", extra={"problem": str(error)})
            raise

    def _ended(self, result: str) -> None:
        self._parts.metrics.ended(result)
        # A job may have waited for its trigger's bound.
        self._parts.alarm.ring()

    def _tampered(self, error: TamperedError) -> None:
        self._forged = error
        self._parts.alarm.ring()

    def circuit_is_open(self) -> bool:
        """Whether the cluster counts as away."""
        return self._dispatcher.availability.is_away

    def _prune_forever(self) -> None:
        while not self._stopping.wait(self._parts.settings.prune_seconds):
            try:
                removed = self._parts.prune(self._parts.clock())
            except ReceiverError as error:
                _log.warning("journal not pruned", extra={"problem": str(error)})
            except Exception:  # noqa: BLE001 - whatever it was, the next time has to come
                _log.exception("journal not pruned")
            else:
                # Each minute there is mostly nothing to tell.
                _log.log(logging.INFO if removed else logging.DEBUG, "journal pruned", extra={"deliveries": removed})

    def _renew_forever(self) -> None:
        while not self._stopping.wait(self._parts.settings.lease_seconds / _RENEWALS):
            try:
                self._dispatcher.renew_leases()
            except ReceiverError as error:
                _log.warning("leases not renewed", extra={"problem": str(error)})
            except Exception:  # noqa: BLE001 - as above
                _log.exception("leases not renewed")
