"""What the public plane tells the outside: a line in the log for each decision, and counters."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from receiver import __version__
from receiver.journal.intake import ACCEPTED, DUPLICATE, IGNORED

_log = logging.getLogger(__name__)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_QUIET_SECONDS = 1.0
_REFUSED, _FAILED = "refused", "failed"
_WATCHED = (
    (202, ACCEPTED),
    (202, DUPLICATE),
    (200, DUPLICATE),
    (401, "signature"),
    (500, "internal"),
    (503, "crowded"),
    (503, "journal"),
)
"""Counted from 0 on: Prometheus sees no increase in a series that begins with its first event, and alerts wait for these."""


class Observer:
    """Reasons are our own short words; texts from outside are only ever fields of a log line, never labels."""

    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._deliveries = Counter(
            "receiver_deliveries_total",
            "Deliveries by result (accepted, duplicate, ignored, refused, failed), HTTP status and reason.",
            ["result", "status", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "receiver_acknowledgement_seconds",
            "From the head of a delivery to its answer, the wait for its body included.",
            buckets=_BUCKETS,
            registry=registry,
        )
        build = Gauge("receiver_build_info", "The version that runs.", ["version", "plane"], registry=registry)
        build.labels(__version__, "serve").set(1)
        self._clock = clock
        self._counted = lru_cache(maxsize=256)(self._series)
        for status, reason in _WATCHED:
            self._counted(status, reason)
        self._refused_since_line = 0
        self._quiet_until = 0.0

    def decided(self, status: int, reason: str, facts: dict[str, Any]) -> None:
        """Report the decision on a delivery that was signed."""
        self._counted(status, reason).inc()
        level = logging.INFO if status < 500 else logging.ERROR
        _log.log(level, "delivery", extra={"status": status, "reason": reason, **facts})

    def refused(self, status: int, reason: str) -> None:
        """Report a refusal of something that proved nothing; a flood of them makes one line a second, with their number."""
        self._counted(status, reason).inc()
        self._refused_since_line += 1
        now = self._clock()
        if now >= self._quiet_until:
            _log.warning("refused", extra={"status": status, "reason": reason, "count": self._refused_since_line})
            self._refused_since_line = 0
            self._quiet_until = now + _QUIET_SECONDS

    def answered(self, seconds: float) -> None:
        """Report how long an answer took."""
        self._seconds.observe(seconds)

    def _series(self, status: int, reason: str) -> Counter:
        return self._deliveries.labels(_result(status, reason), status, reason)


def _result(status: int, reason: str) -> str:
    if status >= 500:
        return _FAILED
    if status >= 400:
        return _REFUSED
    return reason if reason in (ACCEPTED, DUPLICATE) else IGNORED
