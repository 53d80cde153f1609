"""Telling a job that fails by itself from a cluster that is away: the one fails while others succeed."""

from __future__ import annotations

_CONTRADICTIONS = 2
_MOST = 1_000


class Suspects:
    """Remembers whose requests found the cluster away, and which of them a run that was made afterwards contradicts.

    Only a run that was made says so: what is read or refused may never have come to the admission webhook that fails. One
    contradiction is not enough, for a cluster can go away twice. What is remembered is bounded, and a restart forgets it.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._last: dict[int, int] = {}
        self._contradictions: dict[int, int] = {}

    def now(self) -> int:
        """Return what stands for this moment, to be kept while an attempt lasts."""
        return self._failures

    def failed(self, job_id: int) -> bool:
        """Note that the cluster seemed away to this job; return whether that is the job's own fault."""
        if self._contradictions.get(job_id, 0) >= _CONTRADICTIONS:
            return True
        self._failures += 1
        self._last.pop(job_id, None)
        self._last[job_id] = self._failures
        _bound(self._last)
        return False

    def made(self, *, since: int) -> None:
        """Note that a run was made by an attempt that began then: what failed before it did not fail for all."""
        # One that began before may have been answered while the cluster went away.
        for job_id in [job_id for job_id, at in self._last.items() if at <= since]:
            del self._last[job_id]
            self._contradictions[job_id] = self._contradictions.get(job_id, 0) + 1
        _bound(self._contradictions)

    def answered(self, job_id: int) -> None:
        """Note that this job's request was answered, whatever the answer: it begins anew."""
        self._last.pop(job_id, None)
        self._contradictions.pop(job_id, None)


def _bound(known: dict[int, int]) -> None:
    while len(known) > _MOST:
        del known[next(iter(known))]
