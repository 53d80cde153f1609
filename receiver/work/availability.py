"""What all attempts together know of the cluster: whether it is away, why, and whose fault it was."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from receiver.errors import OutageError
from receiver.work.circuit import Circuit
from receiver.work.suspects import Suspects

_log = logging.getLogger(__name__)


class Availability:
    """One circuit and its suspects for the attempts of several threads."""

    def __init__(self, *, clock: Callable[[], float], returned: Callable[[], None]) -> None:
        """`returned` is called when the cluster answers again."""
        self._clock = clock
        self._returned = returned
        self._lock = threading.Lock()
        self._suspects = Suspects()
        self._circuit = Circuit()
        self._problem = ""

    @property
    def is_away(self) -> bool:
        """Whether the cluster counts as away."""
        return self._circuit.is_open

    def why_away(self) -> str | None:
        """Return what was found when the cluster was last asked, None while it answers."""
        with self._lock:
            return self._problem if self._circuit.is_open else None

    def allowance(self, *, busy: int, most: int, most_while_away: int) -> tuple[int, bool]:
        """Return how many more may be tried now, and whether that is to ask for all; see Circuit.allowance."""
        with self._lock:
            now = self._clock()
            bound = most_while_away if self._circuit.is_open else most
            allowed = self._circuit.allowance(now=now, busy=busy, most=bound)
            probing = self._circuit.is_open and allowed > 0
            if probing:
                self._circuit.probing(now=now, random=random.random())  # noqa: S311 - jitter
        return allowed, probing

    def seconds_to_probe(self) -> float | None:
        """Return when to look again, None while the cluster answers."""
        with self._lock:
            return self._circuit.seconds_to_probe(now=self._clock())

    def moment(self) -> int:
        """Return what stands for this moment, to be kept while an attempt lasts; see Suspects.now."""
        with self._lock:
            return self._suspects.now()

    def fails_alone(self, job_id: int) -> bool:
        """Note that this job found the cluster away; return whether that is its own fault."""
        with self._lock:
            return self._suspects.failed(job_id)

    def lost(self, error: OutageError) -> float:
        """Count the cluster as away; return when that was."""
        asked = error.retry_after_seconds
        with self._lock:
            now = self._clock()
            news = self._circuit.failed(now=now, random=random.random(), retry_after_seconds=asked)  # noqa: S311 - jitter
            self._problem = str(error)
        if news:
            _log.warning("cluster away, jobs wait", extra={"problem": str(error)})
        return now

    def answered(self, job_id: int | None = None, *, made_since: int | None = None) -> None:
        """Note an answer, whatever it was: to this job, or to a question that no job asked.

        Where the attempt made a run, `made_since` is the moment at which it began.
        """
        with self._lock:
            news = self._circuit.answered()
            if job_id is not None:
                self._suspects.answered(job_id)
            if made_since is not None:
                self._suspects.made(since=made_since)
        if news:
            _log.info("cluster answers again")
            self._returned()

    def forget(self, job_id: int) -> None:
        """Drop what is known of a job that needs no more attempts."""
        with self._lock:
            self._suspects.answered(job_id)
