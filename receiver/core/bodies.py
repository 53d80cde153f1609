"""What is kept of a payload: all of a usual one, a bounded rest of a huge one."""

from __future__ import annotations

from typing import Any

import msgspec

_BULK = ("added", "removed", "modified")
_LONGEST_MESSAGE = 4_096  # characters
_CUT = "\N{HORIZONTAL ELLIPSIS}"
"""Stands where a message was cut, so that what it happens to end with then is not taken for a trailer."""
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


def bounded_payload(payload: bytes, *, limit_bytes: int) -> bytes | None:
    """Return `payload`, or when it is longer than the limit the same without what a run never needs; None if that is not enough.

    What goes: the list of commits, then the head commit's file lists and the rest of a very long message. Triggers have
    decided by then; without the lists a path filter says "run", so deciding again from the rest never loses a job.
    """
    if len(payload) <= limit_bytes:
        return payload
    fields = _raw.decode(payload)
    fields.pop("commits", None)
    if "head_commit" in fields and bytes(fields["head_commit"]) != b"null":
        head = _object.decode(fields["head_commit"])
        for name in _BULK:
            head.pop(name, None)
        if isinstance(head.get("message"), str) and len(head["message"]) > _LONGEST_MESSAGE:
            head["message"] = head["message"][:_LONGEST_MESSAGE] + _CUT
        fields["head_commit"] = msgspec.Raw(_encode(head))
    rest = _encode(fields)
    return rest if len(rest) <= limit_bytes else None
