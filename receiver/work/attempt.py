"""One attempt at a job: decide again, build the manifest, create the run, and say what has to be recorded."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
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
from receiver.journal.schema import TAMPERED
from receiver.work.availability import Availability
from receiver.work.facts import facts_of
from receiver.work.manifests import manifest_of

_log = logging.getLogger(__name__)
_MOST_SALTS = 3
_DAY_SECONDS = 86_400.0


class Attempts:
    """Tries jobs, from several threads at once; records nothing."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        cluster: Cluster,
        triggers: dict[str, Trigger],
        give_up_days: float,
        clock: Callable[[], float],
        availability: Availability,
        report_started: Callable[[float], None],
    ) -> None:
        """`report_started` is told how many seconds a job waited for its run."""
        self._jobs = jobs
        self._cluster = cluster
        self._triggers = triggers
        self._longest_seconds = give_up_days * _DAY_SECONDS
        self._clock = clock
        self._availability = availability
        self._report_started = report_started

    def once(self, job: Job) -> Change:
        """Try once to make the job's run; return what has to be recorded."""
        try:
            return self._once(job)
        except ReceiverError:
            raise
        except Exception as error:  # noqa: BLE001 - one job must never stop the others
            # It may come again with each attempt, and nobody knows how far this one came.
            _log.exception("job failed in an unforeseen way", extra=facts_of(job))
            return self._later(job, TransientError(f"the receiver failed at this job: {error!r}", in_doubt=True))

    def _once(self, job: Job) -> Change:
        try:
            manifest = manifest_of(job, self._triggers)
        except RejectedError as error:
            return self._dead(job, error.reason, error.detail)
        except TamperedError as error:
            return self._dead(job, TAMPERED, str(error))
        except PermanentError as error:
            return self._dead(job, "refused", str(error))
        since = self._availability.moment()
        try:
            run = self._made_before(job, manifest) or self._cluster.create_run(manifest)
        except OutageError as error:
            return self._away(job, error)
        except TakenError as error:
            self._availability.answered(job.id)
            return self._taken(job, error)
        except TransientError as error:
            self._availability.answered(job.id)
            return self._later(job, error)
        except PermanentError as error:
            self._availability.answered(job.id)
            return self._dead(job, "refused", str(error))
        self._availability.answered(job.id, made_since=since)
        return self._started(job, run["metadata"])

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

    def _started(self, job: Job, metadata: dict[str, Any]) -> Change:
        now = self._clock()
        self._report_started(max(0.0, now - job.waiting_since))
        name, namespace = metadata["name"], metadata["namespace"]
        _log.info("run created", extra={**facts_of(job, run=name), "namespace": namespace})
        return changes.started(job, run_name=name, run_uid=metadata["uid"], at=now)

    def _taken(self, job: Job, error: TakenError) -> Change:
        if job.salt >= _MOST_SALTS:
            return self._dead(job, "name-taken", str(error))
        _log.warning("run name taken", extra={**self._facts(job), "problem": str(error)})
        return changes.salted(job, at=self._clock())

    def _away(self, job: Job, error: OutageError) -> Change:
        if self._availability.fails_alone(job.id):
            return self._later(job, error)
        now = self._availability.lost(error)
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
        now = self._clock()
        if now - job.waiting_since < self._longest_seconds:
            return None
        # To wait for its turn is no fault of a job's.
        waited = now - (self._jobs.failing_since(job) or now)
        if waited < self._longest_seconds:
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
