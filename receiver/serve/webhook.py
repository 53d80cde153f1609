"""From a verified body to the answer: decide, keep, and say so only when it is on disk.

It knows neither Flask nor a server: both hand it the proof of the gate and a way to look up headers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from receiver.core.events import payload_of, read_envelope
from receiver.errors import JournalError, RejectedError
from receiver.journal.intake import IGNORED, NewDelivery, Receipt
from receiver.journal.writer import BatchWriter
from receiver.serve.admission import Admission
from receiver.serve.answers import INTERNAL, UNAVAILABLE, Answer, refusal
from receiver.serve.gate import Verified
from receiver.serve.observe import Observer
from receiver.serve.steps import Steps

Headers = Callable[[str], str | None]
"""Returns the value of a header by its lower-case name, of several the list that RFC 9110 5.2 makes of them; None: absent."""

_log = logging.getLogger(__name__)


class Webhook:
    """Receives deliveries that the gate has let through."""

    def __init__(
        self,
        admission: Admission,
        writer: BatchWriter[NewDelivery, Receipt],
        observer: Observer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._admission = admission
        self._writer = writer
        self._observer = observer
        self._clock = clock

    def receive(self, verified: Verified, headers: Headers) -> Steps:
        """Decide on a delivery, keep it, and report; whatever happens, the answer is a documented one."""
        facts: dict[str, Any] = {}
        try:
            answer = yield from self._keep(verified, headers, facts)
        except RejectedError as error:
            answer = refusal(error)
        except JournalError as error:
            facts["problem"] = str(error)
            answer = UNAVAILABLE
        except Exception:  # noqa: BLE001 - whatever it was, it is counted and logged like any decision
            _log.exception("delivery failed", extra=facts)
            answer = INTERNAL
        self._observer.decided(answer.status, answer.reason, facts)
        return answer

    def _keep(self, verified: Verified, headers: Headers, facts: dict[str, Any]) -> Generator[Any, Receipt, Answer]:
        """`facts` is filled with what the log should say of the delivery."""
        payload = payload_of(verified.body, headers("content-type"), headers("content-encoding"))
        envelope = read_envelope(
            event=headers("x-github-event"), guid=headers("x-github-delivery"), hook_id=headers("x-github-hook-id")
        )
        facts |= {"delivery": envelope.guid, "event_name": envelope.event}
        delivery = self._admission.admit(payload, envelope, verified.signers, now=self._clock())
        push = delivery.push
        facts["repository"] = push.repository if push else delivery.repository
        if push:
            facts |= {"ref": push.ref, "sha": push.head_sha}
        if not delivery.wanted:
            # Kept for the record; where that cannot be done, nothing is lost.
            with suppress(JournalError):
                self._writer.submit(delivery, wait=False)
            said = {"delivery": envelope.guid, "result": IGNORED, "reason": delivery.reason, "detail": delivery.detail}
            return Answer(200, delivery.reason, said)
        receipt: Receipt = yield self._writer.submit(delivery)
        facts["runs"] = [job.run_name for job in receipt.jobs]
        return _acknowledged(envelope.guid, receipt)


def _acknowledged(guid: str, receipt: Receipt) -> Answer:
    runs = [{"trigger": job.trigger, "run": job.run_name, "state": job.state} for job in receipt.jobs]
    body: dict[str, Any] = {"delivery": guid, "result": receipt.result, "runs": runs}
    if receipt.in_flight:
        return Answer(202, receipt.result, body)
    detail = (
        "this push was dealt with already; push again, or use `receiver deliveries replay` while the journal keeps it"
    )
    return Answer(200, receipt.result, {**body, "reason": receipt.result, "detail": detail})
