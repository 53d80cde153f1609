"""The Flask application: the webhook's route and the health of this process.

It is complete by itself and runs under any WSGI server; `receiver.serve.server` puts the gate in front of it, so that
a forged request never gets here, and passes the proof along.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from flask import Flask, Response, request
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from receiver.core.events import Envelope, payload_of, read_envelope
from receiver.errors import JournalError, RejectedError
from receiver.journal.intake import IGNORED, NewDelivery, Receipt
from receiver.journal.writer import BatchWriter
from receiver.serve.admission import Admission
from receiver.serve.gate import Gate, Verified
from receiver.serve.observe import Observer
from receiver.serve.steps import Steps, block

VERIFIED = "receiver.verified"
"""The key of the WSGI environment under which the front passes a `Verified`; no HTTP header can set it."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_RETRY_AFTER_SECONDS = 30
_REFUSAL_HEADERS = {405: {"Allow": "POST"}, 503: {"Retry-After": str(_RETRY_AFTER_SECONDS)}}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


_UNAVAILABLE = _Answer(
    503,
    "journal",
    {"error": "journal", "detail": "the delivery could not be stored; redeliver it later"},
    {"Retry-After": str(_RETRY_AFTER_SECONDS)},
)
_INTERNAL = _Answer(500, "internal", {"error": "internal", "detail": "see the log of the receiver"})


@dataclass(frozen=True, slots=True)
class Plane:
    """What the public plane is made of. `run` is how its requests wait: `block` or `defer`."""

    gate: Gate
    admission: Admission
    writer: BatchWriter[NewDelivery, Receipt]
    observer: Observer
    clock: Callable[[], float] = time.time
    run: Callable[[Steps], Response] = block


class _Receiver(Flask):
    """Flask for one path: no URL is built and no host name looked at, so there is nothing but the path to match."""

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        if request is None:
            return None
        return self.url_map.bind("receiver", path_info=request.path, default_method=request.method)


class _Line(Response):
    """A line of JSON: all that Werkzeug would look for in an arbitrary response is known of it."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.iter_encoded()


class _NoSessions(SessionInterface):
    """GitHub brings no cookies."""

    def open_session(self, app: Flask, request: Any) -> SessionMixin | None:  # noqa: ARG002 - the interface is Flask's
        return None

    def make_null_session(self, app: Flask) -> Any:  # noqa: ARG002 - as above
        return {}

    def is_null_session(self, obj: object) -> bool:  # noqa: ARG002 - as above
        return True


def create_app(plane: Plane, *, path: str) -> Flask:
    """Return the application with the webhook at `path`, and /healthz and /readyz."""
    app = _Receiver("receiver", static_folder=None)
    # A redirect would be lost on GitHub, which follows none.
    app.url_map.merge_slashes = False
    app.session_interface = _NoSessions()
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    health = _Health(plane)

    @app.post(path)
    def webhook() -> Response:
        verified = request.environ.get(VERIFIED) or _verify(plane.gate)
        return plane.run(_webhook(plane, verified, request.environ))

    @app.get("/healthz")
    def healthz() -> Response:
        return respond(200, {"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        return plane.run(_readiness(health))

    _answer_errors(app)
    return app


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(RejectedError)
    def rejected(error: RejectedError) -> Response:
        return refusal(error)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        response = respond(
            error.code or 500, {"error": error.name.lower().replace(" ", "-"), "detail": error.description or ""}
        )
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response


class _Health:
    """Whether the journal takes writes. When the last one failed, only a write that succeeds says otherwise."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._probing = False

    def check(self) -> Generator[Any, Receipt, None]:
        """Raise JournalError while the journal takes no writes."""
        if not self._plane.writer.failing:
            return
        # One question at a time: a flood of probes must not fill the queue that deliveries need.
        if self._probing:
            raise JournalError("the journal is being asked already")
        self._probing = True
        try:
            probe = Envelope(event="readiness", guid="")
            yield self._plane.writer.submit(
                NewDelivery(probe, self._plane.clock(), "readiness", "asked after a failed write")
            )
        finally:
            self._probing = False


def _readiness(health: _Health) -> Steps:
    try:
        yield from health.check()
    except JournalError:
        return respond(_UNAVAILABLE.status, _UNAVAILABLE.body, _UNAVAILABLE.headers)
    return respond(200, {"status": "ready"})


def _webhook(plane: Plane, verified: Verified, environ: dict[str, Any]) -> Steps:
    facts: dict[str, Any] = {}
    try:
        answer = yield from _deliver(plane, verified, environ, facts)
    except RejectedError as error:
        answer = _Answer(error.status, error.reason, {"error": error.reason, "detail": error.detail})
    except JournalError as error:
        facts["problem"] = str(error)
        answer = _UNAVAILABLE
    except Exception:  # noqa: BLE001 - whatever it was, it is counted and logged like any decision
        _log.exception("delivery failed", extra=facts)
        answer = _INTERNAL
    plane.observer.decided(answer.status, answer.reason, facts)
    return respond(answer.status, answer.body, answer.headers)


def _verify(gate: Gate) -> Verified:
    digest = gate.head(
        method=request.method,
        content_length=request.headers.get("Content-Length"),
        signature=request.headers.get("X-Hub-Signature-256"),
    )
    body = request.stream.read(gate.max_body_bytes + 1)
    gate.check_size(len(body))
    return gate.body(body, digest)


def _deliver(
    plane: Plane, verified: Verified, environ: dict[str, Any], facts: dict[str, Any]
) -> Generator[Any, Receipt, _Answer]:
    """Decide on a verified delivery and keep it; `facts` is filled with what the log should say of it."""
    payload = payload_of(verified.body, environ.get("CONTENT_TYPE"), environ.get("HTTP_CONTENT_ENCODING"))
    envelope = read_envelope(
        event=environ.get("HTTP_X_GITHUB_EVENT"),
        guid=environ.get("HTTP_X_GITHUB_DELIVERY"),
        hook_id=environ.get("HTTP_X_GITHUB_HOOK_ID"),
    )
    facts |= {"delivery": envelope.guid, "event_name": envelope.event}
    delivery = plane.admission.admit(payload, envelope, verified.signers, now=plane.clock())
    push = delivery.push
    facts["repository"] = push.repository if push else delivery.repository
    if push:
        facts |= {"ref": push.ref, "sha": push.head_sha}
    if not delivery.wanted:
        # Kept for the record; where that cannot be done, nothing is lost.
        with suppress(JournalError):
            plane.writer.submit(delivery, wait=False)
        ignored = {"delivery": envelope.guid, "result": IGNORED, "reason": delivery.reason, "detail": delivery.detail}
        return _Answer(200, delivery.reason, ignored)
    receipt: Receipt = yield plane.writer.submit(delivery)
    facts["runs"] = [job.run_name for job in receipt.jobs]
    runs = [{"trigger": job.trigger, "run": job.run_name, "state": job.state} for job in receipt.jobs]
    body: dict[str, Any] = {"delivery": envelope.guid, "result": receipt.result, "runs": runs}
    if receipt.in_flight:
        return _Answer(202, receipt.result, body)
    detail = "this push was run already; push again, or use `receiver deliveries replay` while the journal keeps it"
    return _Answer(200, receipt.result, {**body, "reason": receipt.result, "detail": detail})


def refusal(error: RejectedError) -> Response:
    """Return the answer to a rejected delivery: one line of JSON that says why."""
    headers = _REFUSAL_HEADERS.get(error.status)
    return respond(error.status, {"error": error.reason, "detail": error.detail}, headers)


def respond(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return a response of one line of JSON."""
    content = _encode(body) + b"\n"
    response = _Line(content, status, headers, content_type="application/json")
    response.content_length = len(content)
    return response
