"""What the API server's refusals mean: who waits, who gives up, and who tries at once."""

from __future__ import annotations

import json

import pytest
from kubernetes import client

from receiver.clients.refusals import (
    ExistsError,
    ForbiddenError,
    WatchExpiredError,
    cause,
    shortened,
    translated,
    watch_error,
)
from receiver.errors import NotFoundError, OutageError, PermanentError, ReceiverError, TransientError


def refusal(status: int, body: str | bytes | None = None, **headers: str) -> ReceiverError:
    """Translate an answer of the API server."""
    error = client.ApiException(status=status, reason="Reason")
    error.body = body
    error.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return translated(error)


def said(message: str) -> str:
    return json.dumps({"kind": "Status", "message": message})


@pytest.mark.parametrize(
    ("status", "message", "kind", "in_doubt"),
    [
        (0, "no answer", OutageError, True),
        (400, "unknown field", PermanentError, None),
        (401, "Unauthorized", OutageError, False),
        (403, "may not create", ForbiddenError, None),
        (403, "exceeded quota: runs", TransientError, False),
        (403, "status unknown for quota: runs", TransientError, False),
        (403, "not yet ready to handle request", TransientError, False),
        (404, "not found", NotFoundError, None),
        (408, "timed out", TransientError, False),
        (409, "already exists", ExistsError, None),
        (410, "too old resource version", WatchExpiredError, False),
        (422, "is invalid", PermanentError, None),
        (429, "slow down", TransientError, False),
        (500, "etcd", TransientError, True),
        (500, 'failed calling webhook "webhook.tekton.dev"', OutageError, True),
        (502, "bad gateway", OutageError, True),
        (503, "unavailable", OutageError, True),
        (504, "gateway timed out", OutageError, True),
        (507, "insufficient storage", TransientError, True),
    ],
)
def test_a_refusal_is_sorted_by_what_the_caller_does_next(
    status: int, message: str, kind: type[ReceiverError], in_doubt: bool | None
) -> None:
    error = refusal(status, said(message))
    assert type(error) is kind
    assert str(error) == f"HTTP {status}: {message}"
    assert getattr(error, "in_doubt", None) is in_doubt


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20", 20.0),
        ("0", 0.0),
        ("99999999999", 3_600.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_in_seconds_is_heeded_for_up_to_an_hour_and_anything_else_is_none(
    status: int, value: str, seconds: float | None
) -> None:
    error = refusal(status, said("later"), Retry_After=value)
    assert isinstance(error, TransientError)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (said("a").encode(), "HTTP 400: a"),
        ("<html>a proxy's page", "HTTP 400: <html>a proxy's page"),
        (b"\xff", "HTTP 400: \N{REPLACEMENT CHARACTER}"),
        ("[]", "HTTP 400: []"),
        ("{}", "HTTP 400: {}"),
        (None, "HTTP 400: Reason"),
        ("x" * 10_000, "HTTP 400: " + "x" * 200),
        (said("x" * 10_000), ("HTTP 400: " + "x" * 10_000)[:1_000]),
    ],
    ids=["bytes", "page", "no text", "list", "no message", "nothing", "long page", "long message"],
)
def test_the_words_are_the_servers_own_in_bounds(body: str | bytes | None, words: str) -> None:
    assert str(refusal(400, body)) == words


def test_an_error_of_a_watch_is_expired_at_410_and_waits_otherwise() -> None:
    assert type(watch_error({"code": 410, "message": "too old"})) is WatchExpiredError
    assert type(watch_error({"code": 500, "message": "etcd"})) is TransientError
    assert str(watch_error({"reason": "odd"})) == "{'reason': 'odd'}"


def test_causes_and_words_are_kept_short() -> None:
    assert cause(OSError("x" * 1_000)) == "x" * 300
    assert shortened("x" * 2_000) == "x" * 1_000
