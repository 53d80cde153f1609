"""What the public plane says: one line of JSON with a status, whoever carries it to the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from receiver.errors import RejectedError

_encode = msgspec.json.Encoder().encode
_RETRY_AFTER = (("Retry-After", "30"),)
_REFUSAL_HEADERS = {405: (("Allow", "POST"),), 503: _RETRY_AFTER}
_LINE = ("Content-Type", "application/json")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it is written: `reason` is a short machine word for log and metrics, `body` what the client reads."""

    status: int
    reason: str
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()

    def written(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, all headers, and the content: one line of JSON."""
        content = _encode(self.body) + b"\n"
        return self.status, [*self.headers, _LINE, ("Content-Length", str(len(content)))], content


UNAVAILABLE = Answer(
    503, "journal", {"error": "journal", "detail": "the delivery could not be stored; redeliver it later"}, _RETRY_AFTER
)
INTERNAL = Answer(500, "internal", {"error": "internal", "detail": "see the log of the receiver"})


def refusal(error: RejectedError) -> Answer:
    """Return the answer to a rejected delivery, which says why."""
    headers = _REFUSAL_HEADERS.get(error.status, ())
    return Answer(error.status, error.reason, {"error": error.reason, "detail": error.detail}, headers)
