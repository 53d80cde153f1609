"""Which jobs are tried, when, and on which thread: claim, hold the lease, let an attempt be made, record what it brought."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from receiver.clients.cluster import Cluster
from receiver.core.triggers import Trigger
from receiver.errors import OutageError, ReceiverError
from receiver.journal import changes
from receiver.journal.changes import Change, Job
from receiver.journal.jobs import Jobs
from receiver.journal.schema import WAITING
from receiver.journal.writer import BatchWriter
from receiver.work.attempt import Attempts
from receiver.work.availability import Availability
from receiver.work.facts import facts_of

_log = logging.getLogger(__name__)
_AHEAD = 4  # claims per worker thread, so that none waits for the next claim
_ASK_LATER_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Limits:
    """How the private plane works: creations at once, seconds of a lease, days before a waiting job is given up."""

    concurrency: int
    lease_seconds: float
    give_up_days: float


class Dispatcher:
    """Makes runs of jobs, `concurrency` at a time."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        recorder: BatchWriter[Change, bool],
        cluster: Cluster,
        triggers: tuple[Trigger, ...],
        limits: Limits,
        clock: Callable[[], float],
        ring: Callable[[], None],
        report_started: Callable[[float], None] = lambda _seconds: None,
        pool: Executor | None = None,
    ) -> None:
        """`ring` makes whoever waits between two steps take the next one now; `pool` is where attempts are made."""
        self._jobs = jobs
        self._recorder = recorder
        self._cluster = cluster
        self._namespace = triggers[0].namespace
        self._limits = limits
        self._most = limits.concurrency * _AHEAD
        # Threads that wait for a time-out must leave some for when the cluster is back.
        self._most_while_away = max(1, limits.concurrency // 2)
        self._max_active = {trigger.name: trigger.max_active for trigger in triggers if trigger.max_active is not None}
        self._clock = clock
        self._ring = ring
        self._lock = threading.Lock()
        self._held: dict[int, Job] = {}
        self._probes: set[int] = set()
        self._asking = False
        self._sated = True
        self._running: set[Future[None]] = set()
        self._pool = pool or ThreadPoolExecutor(limits.concurrency, thread_name_prefix="create")
        self.availability = Availability(clock=clock, returned=ring)
        self.attempts = Attempts(
            jobs=jobs,
            cluster=cluster,
            triggers={trigger.name: trigger for trigger in triggers},
            give_up_days=limits.give_up_days,
            clock=clock,
            availability=self.availability,
            report_started=report_started,
        )

    def step(self) -> float:
        """Claim what may be tried now and start on it; return the seconds after which to look again, if nobody rings."""
        now = self._clock()
        allowed, probing = self.availability.allowance(
            busy=self._busy(), most=self._most, most_while_away=self._most_while_away
        )
        claimed: list[Job] = []
        if allowed:
            if probing:
                self._cluster.reconnect()
            claimed = self._jobs.claim(
                now=now, limit=allowed, lease_seconds=self._limits.lease_seconds, max_active=self._max_active
            )
            with self._lock:
                self._held |= {job.id: job for job in claimed}
                self._probes |= {job.id for job in claimed if probing}
                asks = probing and not claimed and not self._asking
                self._asking |= asks
            self._running = {each for each in self._running if not each.done()}
            self._running |= {self._pool.submit(self._handle, job) for job in claimed}
            if asks:
                self._running.add(self._pool.submit(self._ask))
        self._sated = len(claimed) < allowed
        return self._pause(now, claimed=bool(claimed))

    def _busy(self) -> int:
        with self._lock:
            return len(self._held) + self._asking

    def renew_leases(self) -> None:
        """Prolong the leases of all jobs in hand."""
        with self._lock:
            held = list(self._held.values())
        if held:
            self._jobs.renew(held, until=self._clock() + self._limits.lease_seconds)

    def close(self, *, seconds: float | None = None) -> bool:
        """Finish within `seconds` and give back what is left; return whether all finished. Raises JournalError."""
        finished = self.finish(seconds=seconds)
        self.give_back()
        return finished

    def finish(self, *, seconds: float | None = None) -> bool:
        """Begin nothing more and let the creations that have begun finish within `seconds`; return whether all did."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        _, late = wait([each for each in self._running if not each.cancelled()], timeout=seconds)
        return not late

    def give_back(self) -> None:
        """Give back all jobs in hand. A run that is late may still be made, and whoever takes the job next finds it."""
        with self._lock:
            held = list(self._held.values())
        if held:
            self._jobs.release(held)

    def _pause(self, now: float, *, claimed: bool) -> float:
        probe = self.availability.seconds_to_probe()
        busy = self._busy()
        if probe is not None:
            return 1.0 if busy >= self._most_while_away else min(1.0, probe)
        if claimed and self._sated:
            # The creations come first; what is due next can be asked when they are on their way.
            return _ASK_LATER_SECONDS
        due = None if busy >= self._most else self._jobs.next_due(now=now)
        # Where there was room for more, what is due all the same waits for a bound of its trigger.
        return 1.0 if due is None or (self._sated and due <= now) else min(1.0, max(0.0, due - now))

    def _handle(self, job: Job) -> None:
        is_over = False
        try:
            change = self._held_back(job) or self.attempts.once(job)
            if not self._recorder.submit(change).result():
                _log.warning("another worker was quicker", extra=facts_of(job))
            is_over = change.state != WAITING
        except ReceiverError as error:
            # The lease runs out by itself, and the step is repeated.
            _log.error("job not recorded", extra={**facts_of(job), "problem": str(error)})
        except Exception:  # noqa: BLE001 - as below
            _log.exception("job not recorded", extra=facts_of(job))
        finally:
            with self._lock:
                self._held.pop(job.id, None)
                self._probes.discard(job.id)
                low = len(self._held) < self._most // 2
            if is_over:
                self.availability.forget(job.id)
            # To look in vain costs more than to wait for the next push.
            if low and not (is_over and self._sated and not self._max_active):
                self._ring()

    def _ask(self) -> None:
        """Ask whether the cluster answers again when there is no job to try it with."""
        try:
            self._cluster.ask(self._namespace)
        except OutageError as error:
            self.availability.lost(error)
        except ReceiverError:
            self.availability.answered()
        except Exception:  # noqa: BLE001 - whatever it was, the next question has to come
            _log.exception("asking the cluster failed in an unforeseen way")
            self.availability.lost(OutageError("asking the cluster failed"))
        else:
            self.availability.answered()
        finally:
            with self._lock:
                self._asking = False

    def _held_back(self, job: Job) -> Change | None:
        """Give a job back that was claimed before the cluster went away, so that it does not wait for a time-out of its own."""
        with self._lock:
            probes = job.id in self._probes
        why = self.availability.why_away()
        if probes or why is None:
            return None
        now = self._clock()
        return changes.postponed(job, due_at=now, reason=why, at=now, counts=False, in_doubt=False)
