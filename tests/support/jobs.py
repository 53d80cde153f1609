"""The steps of jobs, as a worker takes them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from receiver.journal.changes import Job, died, finished, started
from receiver.journal.jobs import Jobs
from tests.support.journals import NOW

LEASE = 10.0


def claim(engine: Engine, *, now: float = NOW, limit: int = 10, **more: Any) -> list[Job]:
    """Claim what is due, for `LEASE` seconds; `more` is what Jobs.claim takes beside."""
    return Jobs(engine).claim(now=now, limit=limit, lease_seconds=LEASE, **more)


def start(engine: Engine, job: Job, uid: str = "uid") -> None:
    """Record that a claimed job's run exists."""
    assert Jobs(engine).apply([started(job, run_name="striv-x", run_uid=uid, at=NOW)]) == [True]


def end(engine: Engine) -> None:
    """Record of all runs that exist that they succeeded."""
    queue = Jobs(engine)
    change = [
        finished(job, result="succeeded", reason="", message="", failed_task=None, at=NOW) for job in queue.started()
    ]
    assert all(queue.apply(list(change)))


def kill_all(engine: Engine) -> None:
    """Claim all that is due and record that it is dead."""
    claimed = claim(engine, limit=100)
    assert claimed
    assert all(Jobs(engine).apply([died(job, reason="refused", message="no", at=NOW) for job in claimed]))


def start_all(engine: Engine) -> None:
    """Claim all that is due and record that the runs exist."""
    claimed = claim(engine, limit=100)
    assert claimed
    for job in claimed:
        start(engine, job, f"uid-{job.id}")


def finish_all(engine: Engine) -> None:
    """Claim all that is due and record that the runs exist and succeeded."""
    start_all(engine)
    end(engine)
