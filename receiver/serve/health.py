"""Whether the public plane can acknowledge: the journal takes writes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from receiver.errors import JournalError
from receiver.journal.intake import NewDelivery, Receipt
from receiver.journal.probe import PROBE
from receiver.journal.writer import BatchWriter
from receiver.serve.answers import UNAVAILABLE, Answer
from receiver.serve.steps import Steps

ALIVE = Answer(200, "alive", {"status": "ok"})
_READY = Answer(200, "ready", {"status": "ready"})
_FRESH_SECONDS = 5.0
_KEPT_SECONDS = 1.0


class Health:
    """Believes a write that is fresh; else, and after one that failed, it tries."""

    def __init__(
        self, writer: BatchWriter[NewDelivery, Receipt], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` is the writer's."""
        self._writer = writer
        self._clock = clock
        self._probing = False
        self._found = UNAVAILABLE
        self._found_at = -math.inf

    def readiness(self) -> Steps:
        """Return 200, or 503 while the journal takes no writes."""
        failing, now = self._writer.failing, self._clock()
        if not failing and now - self._writer.written_at < _FRESH_SECONDS:
            return _READY
        # One question at a time, and not too many: a flood of them must not cost what deliveries need.
        if self._probing or now - self._found_at < _KEPT_SECONDS:
            return UNAVAILABLE if failing else self._found
        self._probing = True
        self._found = yield from self._try()
        self._found_at = self._clock()
        return self._found

    def _try(self) -> Steps:
        try:
            yield self._writer.submit(PROBE)
        except JournalError:
            return UNAVAILABLE
        finally:
            self._probing = False
        return _READY
