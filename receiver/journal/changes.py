"""A claimed job, and the steps it can take: values that say what to record, made without a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING

FREE = 0.0
IN_DOUBT = 1.0
"""A `lease_until` of 0 says: no run of this job can exist. Any other, run out or not: it may, so it counts as active."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: what to do, and the lease under which it may be done. `payload` is None when it was pruned or is damaged.

    `run_name` is the name that was foretold when the push came; `in_doubt` is whether an earlier
    attempt may have made the run, its reply lost; `has_failed` is whether it was put off before, since it waits.
    """

    id: int
    key: bytes
    push_key: bytes
    trigger: str
    generation: int
    guid: str
    repository: str
    ref: str
    head_sha: str
    waiting_since: float
    attempts: int
    lease: int
    salt: int
    payload: bytes | None = field(repr=False)
    run_name: str | None = None
    in_doubt: bool = False
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job whose run exists."""

    id: int
    key: bytes
    trigger: str
    guid: str
    repository: str
    ref: str
    head_sha: str
    run_name: str
    run_uid: str


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one job: `values` are columns of `jobs`; a change of state, and whatever else `is_news`, is logged.

    `lease` is the lease that has to be held still; None where the state alone guards (a started job needs no lease).
    """

    job: Job | StartedJob
    expected: str
    state: str
    reason: str
    at: float
    values: dict[str, Any]
    lease: int | None = None
    is_news: bool = False


def started(job: Job, *, run_name: str, run_uid: str, at: float) -> Change:
    """The run exists."""
    values = {"run_name": run_name, "run_uid": run_uid, "started_at": at, "lease_until": FREE}
    return Change(job, WAITING, STARTED, "created", at, values, job.lease)


def postponed(job: Job, *, due_at: float, reason: str, at: float, counts: bool, in_doubt: bool) -> Change:
    """The step failed and may work later; `counts` is whether it uses up the job's patience, `in_doubt` whether it was done."""
    values = {
        "due_at": due_at,
        # A refusal now says nothing about an attempt before whose reply was lost.
        "lease_until": IN_DOUBT if in_doubt or job.in_doubt else FREE,
        "attempts": job.attempts + int(counts),
        "message": reason,
    }
    # The first time tells since when the job has been failing.
    return Change(job, WAITING, WAITING, reason, at, values, job.lease, is_news=not job.has_failed)


def salted(job: Job, *, at: float) -> Change:
    """A foreign object has the name: try at once under another."""
    values = {"salt": job.salt + 1, "due_at": at, "lease_until": FREE}
    return Change(job, WAITING, WAITING, "name taken by a foreign object", at, values, job.lease)


def died(job: Job, *, reason: str, message: str, at: float, in_doubt: bool = False) -> Change:
    """Trying again cannot help: a person has to change something.

    `in_doubt` is whether the last attempt may have made the run all the same.
    """
    # A death leaves the doubt: should the job live again, its lost run still counts.
    values = {
        "reason": reason,
        "message": message,
        "lease_until": IN_DOUBT if in_doubt or job.in_doubt else FREE,
        # From here on the doubt is counted (receiver.journal.turns), and the index by state goes on with this column.
        "due_at": at,
        "finished_at": at,
    }
    return Change(job, WAITING, DEAD, reason, at, values, job.lease)


def finished(
    job: StartedJob,
    *,
    result: str,
    reason: str,
    message: str,
    failed_task: str | None,
    at: float,
    corrects: bool = False,
) -> Change:
    """The run has an outcome; `corrects` is whether the journal says another already."""
    values = {"result": result, "reason": reason, "message": message, "failed_task": failed_task, "finished_at": at}
    return Change(job, FINISHED if corrects else STARTED, FINISHED, reason or result, at, values)
