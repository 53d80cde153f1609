"""From job to run: claim, decide again, build the manifest, create, record."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from receiver.clients.cluster import Cluster
from receiver.clients.refusals import TakenError
from receiver.core.identity import run_name
from receiver.core.pipelinerun import DELIVERY, KEY
from receiver.core.retry import retry_delay
from receiver.core.triggers import Trigger
from receiver.errors import OutageError, PermanentError, ReceiverError, RejectedError, TamperedError, TransientError
from receiver.journal import changes
from receiver.journal.changes import Change, Job
from receiver.journal.jobs import Jobs
from receiver.journal.schema import WAITING
from receiver.journal.writer import BatchWriter
from receiver.work.circuit import Circuit
from receiver.work.facts import facts_of
from receiver.work.manifests import manifest_of
from receiver.work.suspects import Suspects

_log = logging.getLogger(__name__)
_AHEAD = 4  # claims per worker thread, so that none waits for the next claim
_ASK_LATER_SECONDS = 0.03
_MOST_SALTS = 3
_DAY_SECONDS = 86_400.0


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
        self._triggers = {trigger.name: trigger for trigger in triggers}
        self._limits = limits
        self._max_active = {trigger.name: trigger.max_active for trigger in triggers if trigger.max_active is not None}
        self._clock = clock
        self._ring = ring
        self._report_started = report_started
        self._lock = threading.Lock()
        self._held: dict[int, Job] = {}
        self._probes: set[int] = set()
        self._suspects = Suspects()
        self._asking = False
        self._why_away = ""
        self._sated = True
        self._running: set[Future[None]] = set()
        self._pool = pool or ThreadPoolExecutor(limits.concurrency, thread_name_prefix="create")
        self.circuit = Circuit()

    def step(self) -> float:
        """Claim what may be tried now and start on it; return the seconds after which to look again, if nobody rings."""
        now = self._clock()
        with self._lock:
            allowed = self.circuit.allowance(now=now, busy=len(self._held) + self._asking, most=self._most())
            probing = self.circuit.is_open and allowed > 0
            if probing:
                self.circuit.probing(now=now, random=random.random())  # noqa: S311 - jitter
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

    def _most(self) -> int:
        # While the cluster is away, threads that wait for a time-out must leave some for when it is back.
        return max(1, self._limits.concurrency // 2) if self.circuit.is_open else self._limits.concurrency * _AHEAD

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
        with self._lock:
            probe = self.circuit.seconds_to_probe(now=now)
            full = len(self._held) + self._asking >= self._most()
        if probe is not None:
            return 1.0 if full else min(1.0, probe)
        if claimed and self._sated:
            # The creations come first; what is due next can be asked when they are on their way.
            return _ASK_LATER_SECONDS
        due = None if full else self._jobs.next_due(now=now)
        # Where there was room for more, what is due all the same waits for a bound of its trigger.
        return 1.0 if due is None or (self._sated and due <= now) else min(1.0, max(0.0, due - now))

    def _handle(self, job: Job) -> None:
        is_over = False
        try:
            change = self._held_back(job) or self.attempt(job)
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
                if is_over:
                    self._suspects.answered(job.id)
                low = len(self._held) < self._limits.concurrency * _AHEAD // 2
            # To look in vain costs more than to wait for the next push.
            if low and not (is_over and self._sated and not self._max_active):
                self._ring()

    def _ask(self) -> None:
        """Ask whether the cluster answers again when there is no job to try it with."""
        try:
            self._cluster.ask(next(iter(self._triggers.values())).namespace)
        except OutageError as error:
            self._note_outage(error)
        except ReceiverError:
            self._answered()
        except Exception:  # noqa: BLE001 - whatever it was, the next question has to come
            _log.exception("asking the cluster failed in an unforeseen way")
            self._note_outage(OutageError("asking the cluster failed"))
        else:
            self._answered()
        finally:
            with self._lock:
                self._asking = False

    def _held_back(self, job: Job) -> Change | None:
        """Give a job back that was claimed before the cluster went away, so that it does not wait for a time-out of its own."""
        with self._lock:
            if not self.circuit.is_open or job.id in self._probes:
                return None
        now = self._clock()
        return changes.postponed(job, due_at=now, reason=self._why_away, at=now, counts=False, in_doubt=False)

    def attempt(self, job: Job) -> Change:
        """Try once to make the job's run; return what has to be recorded."""
        try:
            return self._attempt(job)
        except ReceiverError:
            raise
        except Exception as error:  # noqa: BLE001 - one job must never stop the others
            # It may come again with each attempt, and nobody knows how far this one came.
            _log.exception("job failed in an unforeseen way", extra=facts_of(job))
            return self._later(job, TransientError(f"the receiver failed at this job: {error!r}", in_doubt=True))

    def _attempt(self, job: Job) -> Change:
        try:
            manifest = manifest_of(job, self._triggers)
        except RejectedError as error:
            return self._dead(job, error.reason, error.detail)
        except TamperedError as error:
            return self._dead(job, "tampered", str(error))
        except PermanentError as error:
            return self._dead(job, "refused", str(error))
        since = self._suspects.now()
        try:
            run = self._made_before(job, manifest) or self._cluster.create_run(manifest)
        except TakenError as error:
            self._answered(job)
            if job.salt < _MOST_SALTS:
                _log.warning("run name taken", extra={**self._facts(job), "problem": str(error)})
                return changes.salted(job, at=self._clock())
            return self._dead(job, "name-taken", str(error))
        except OutageError as error:
            return self._away(job, error)
        except TransientError as error:
            self._answered(job)
            return self._later(job, error)
        except PermanentError as error:
            self._answered(job)
            return self._dead(job, "refused", str(error))
        self._answered(job, made_since=since)
        now = self._clock()
        self._report_started(max(0.0, now - job.waiting_since))
        metadata = run["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        _log.info("run created", extra={**facts_of(job, run=name), "namespace": namespace})
        return changes.started(job, run_name=name, run_uid=metadata["uid"], at=now)

    def _made_before(self, job: Job, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """Return the run of an attempt whose reply was lost, where the template names runs otherwise since then.

        Under the same name the API server itself would tell.
        """
        if not job.in_doubt or job.run_name == run_name(self._triggers[job.trigger].name_prefix, job.key):
            return None
        selector = f"{DELIVERY}={job.guid}"
        runs, _ = self._cluster.list_runs(manifest["metadata"]["namespace"], selector=selector)
        key = manifest["metadata"]["annotations"][KEY]
        return next((run for run in runs if (run["metadata"].get("annotations") or {}).get(KEY) == key), None)

    def _note_outage(self, error: OutageError) -> float:
        """Open the circuit, or keep it open; return when that was."""
        now = self._clock()
        with self._lock:
            news = self.circuit.failed(now=now, random=random.random(), retry_after_seconds=error.retry_after_seconds)  # noqa: S311 - jitter
            self._why_away = str(error)
        if news:
            _log.warning("cluster away, jobs wait", extra={"problem": str(error)})
        return now

    def _away(self, job: Job, error: OutageError) -> Change:
        with self._lock:
            is_alone = self._suspects.failed(job.id)
        if is_alone:
            return self._later(job, error)
        now = self._note_outage(error)
        return self._given_up(job, error) or changes.postponed(
            job, due_at=now, reason=str(error), at=now, counts=False, in_doubt=error.in_doubt
        )

    def _later(self, job: Job, error: TransientError) -> Change:
        if dead := self._given_up(job, error):
            return dead
        now = self._clock()
        delay = retry_delay(job.attempts + 1, random=random.random(), retry_after_seconds=error.retry_after_seconds)  # noqa: S311 - jitter
        facts = {**self._facts(job), "problem": str(error), "delay_seconds": round(delay, 1)}
        _log.warning("job postponed", extra=facts)
        return changes.postponed(
            job, due_at=now + delay, reason=str(error), at=now, counts=True, in_doubt=error.in_doubt
        )

    def _given_up(self, job: Job, error: TransientError) -> Change | None:
        longest = self._limits.give_up_days * _DAY_SECONDS
        now = self._clock()
        if now - job.waiting_since < longest:
            return None
        # To wait for its turn is no fault of a job's.
        waited = now - (self._jobs.failing_since(job) or now)
        if waited < longest:
            return None
        message = f"after {waited / _DAY_SECONDS:.1f} days: {error}"
        return self._dead(job, "given-up", message, in_doubt=error.in_doubt)

    def _dead(self, job: Job, reason: str, message: str, *, in_doubt: bool = False) -> Change:
        _log.error("job dead", extra={**self._facts(job), "reason": reason, "problem": message})
        return changes.died(job, reason=reason, message=message, at=self._clock(), in_doubt=in_doubt)

    def _facts(self, job: Job) -> dict[str, Any]:
        """The fields of a log line, with the name that the run was tried under."""
        trigger = self._triggers.get(job.trigger)
        return facts_of(job, run=run_name(trigger.name_prefix, job.key, salt=job.salt) if trigger else None)

    def _answered(self, job: Job | None = None, *, made_since: int | None = None) -> None:
        with self._lock:
            news = self.circuit.answered()
            if job is not None:
                self._suspects.answered(job.id)
            if made_since is not None:
                self._suspects.made(since=made_since)
        if news:
            _log.info("cluster answers again")
            self._ring()
