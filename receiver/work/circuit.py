"""One circuit for a cluster: when it is away, all jobs wait together and one of them asks again each second."""

from __future__ import annotations

_PROBE_SECONDS = 1.0
_LONGEST_SECONDS = 5.0


class Circuit:
    """Closed while the cluster answers. The time and the random number are arguments."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether the cluster counts as away."""
        self._planned_at = 0.0
        self._probe_at = 0.0

    def failed(self, *, now: float, random: float, retry_after_seconds: float | None = None) -> bool:
        """Note an outage; return whether it is news. The next probe is due in half to one and a half seconds.

        What the server asked for is heeded up to 5 s and not, as for a single job, in full: all jobs wait for this one probe,
        which costs the server next to nothing, and start the sooner when it answers.
        """
        news = not self.is_open
        self.is_open = True
        self._plan(now, random, min(retry_after_seconds or 0.0, _LONGEST_SECONDS))
        return news

    def probing(self, *, now: float, random: float) -> None:
        """Note that one asks now: the next probe is due as soon as after an outage, even where this one gets no answer."""
        self._plan(now, random)

    def _plan(self, now: float, random: float, least_seconds: float = 0.0) -> None:
        self._planned_at = now
        self._probe_at = now + max(_PROBE_SECONDS * (0.5 + random), least_seconds)

    def answered(self) -> bool:
        """Note that the cluster answers; return whether it is news."""
        news = self.is_open
        self.is_open = False
        return news

    def allowance(self, *, now: float, busy: int, most: int) -> int:
        """Return how many more jobs may be tried now when `busy` are being tried and `most` may be."""
        if not self.is_open:
            return max(0, most - busy)
        return 1 if busy < most and self.seconds_to_probe(now=now) == 0.0 else 0

    def seconds_to_probe(self, *, now: float) -> float | None:
        """Return when to look again, None while the circuit is closed."""
        if not self.is_open:
            return None
        # A clock that was set back must not keep the cluster waiting until it has caught up.
        return max(0.0, self._probe_at - now) if now >= self._planned_at else 0.0
