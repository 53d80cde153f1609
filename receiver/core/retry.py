"""When to try again. The random number and the time are arguments, so every decision can be repeated."""

from __future__ import annotations

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0


def retry_delay(attempt: int, *, random: float, retry_after_seconds: float | None = None) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 1): exponential, full jitter, at most 60 s.

    `random` lies in [0, 1). What the server asked for is never undercut: this is for one job, which can wait. The rest comes
    on top, since the server asks all for the same, and they must not all come back at once. Where the whole cluster is away,
    `receiver.work.circuit` asks again sooner.
    """
    ceiling = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempt - 1, 16))
    return ceiling * (0.1 + 0.9 * random) + (retry_after_seconds or 0.0)
