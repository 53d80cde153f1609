"""What every log line about a job says."""

from __future__ import annotations

from typing import Any

from receiver.journal.changes import Job, StartedJob


def facts_of(job: Job | StartedJob, *, run: str | None = None) -> dict[str, Any]:
    """Return the fields of a log line; `run` is the run's name where it is another than the job's row says."""
    return {
        "delivery": job.guid,
        "trigger": job.trigger,
        "repository": job.repository,
        "ref": job.ref,
        "sha": job.head_sha,
        "run": run or job.run_name,
    }
