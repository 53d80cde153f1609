"""What the API server's refusals mean: each HTTP error as one of our own errors, sorted by what the caller does next."""

from __future__ import annotations

import json
from typing import Any

from kubernetes import client

from receiver.errors import NotFoundError, OutageError, PermanentError, ReceiverError, TransientError

# Admission plug-ins answer 403 for what only has to wait: a full quota, one that is new, a plug-in that is starting.
_WAITS = ("exceeded quota", "status unknown for quota", "not yet ready to handle request")
_LONGEST_MESSAGE = 1_000
_LONGEST_RETRY_AFTER_SECONDS = 3_600.0


class TakenError(PermanentError):
    """A foreign object has the run's name."""


class ForbiddenError(PermanentError):
    """HTTP 403: our identity may not do this."""


class WatchExpiredError(TransientError):
    """The resource version is too old to watch from: list again (HTTP 410)."""


class ExistsError(PermanentError):
    """HTTP 409 on a create."""


def translated(error: client.ApiException) -> ReceiverError:
    """Sort an HTTP error by what the caller does next; the message is the API server's own."""
    status = error.status or 0
    message = _message(error)
    retry_after = _retry_after(error)
    if status == 409:
        return ExistsError(message)
    if status == 410:
        return WatchExpiredError(message)
    if status == 404:
        return NotFoundError(message)
    # A webhook that cannot be called is Tekton being away, and no fault of the object.
    if status in (0, 401, 502, 503, 504) or (status == 500 and "failed calling webhook" in message):
        return OutageError(message, retry_after_seconds=retry_after, in_doubt=status != 401)
    if status in (408, 429) or status >= 500 or (status == 403 and any(text in message for text in _WAITS)):
        return TransientError(message, retry_after_seconds=retry_after, in_doubt=status >= 500)
    return ForbiddenError(message) if status == 403 else PermanentError(message)


def watch_error(found: dict[str, Any]) -> ReceiverError:
    """Return the error that a watch's event of type ERROR tells of."""
    message = shortened(str(found.get("message") or found))
    return WatchExpiredError(message) if found.get("code") == 410 else TransientError(message)


def _message(error: client.ApiException) -> str:
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else error.body or ""
    try:
        text = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not an API server's Status object, so perhaps a proxy's page: its length says nothing, its begin may.
        text = body[:200] or error.reason or "no message"
    return shortened(f"HTTP {error.status}: {text}")


def _retry_after(error: client.ApiException) -> float | None:
    # Seconds, as API servers send them (RFC 9110 10.2.3 allows a date too). What asks for a year must not outlast give_up_days.
    value = (error.headers or {}).get("Retry-After", "")
    return min(float(value), _LONGEST_RETRY_AFTER_SECONDS) if value.isascii() and value.isdigit() else None


def cause(error: BaseException) -> str:
    """Return why there was no answer, in a few words."""
    return str(getattr(error, "reason", None) or error)[:300]


def shortened(text: str) -> str:
    """Return as much of the API server's words as a row or a log line should hold."""
    return text[:_LONGEST_MESSAGE]
