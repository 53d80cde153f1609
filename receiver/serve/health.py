"""Whether the public plane can acknowledge: the journal takes writes."""

from __future__ import annotations

import time
from collections.abc import Callable

from receiver.core.events import Envelope
from receiver.errors import JournalError
from receiver.journal.intake import NewDelivery, Receipt
from receiver.journal.writer import BatchWriter
from receiver.serve.answers import UNAVAILABLE, Answer
from receiver.serve.steps import Steps

ALIVE = Answer(200, "alive", {"status": "ok"})
_READY = Answer(200, "ready", {"status": "ready"})


class Health:
    """Believes the last write; when that failed, only a write that succeeds says otherwise."""

    def __init__(self, writer: BatchWriter[NewDelivery, Receipt], *, clock: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._clock = clock
        self._probing = False

    def readiness(self) -> Steps:
        """Return 200, or 503 while the journal takes no writes."""
        if not self._writer.failing:
            return _READY
        # One question at a time: a flood of probes must not fill the queue that deliveries need.
        if self._probing:
            return UNAVAILABLE
        self._probing = True
        try:
            probe = Envelope(event="readiness", guid="")
            yield self._writer.submit(NewDelivery(probe, self._clock(), "readiness", "asked after a failed write"))
        except JournalError:
            return UNAVAILABLE
        finally:
            self._probing = False
        return _READY
