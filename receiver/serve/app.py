"""The Flask application: the webhook's route and the health of this process.

It is complete by itself and runs under any WSGI server. `receiver.serve.server` stands in front of it: there a forged request
never gets here, and a verified one is answered by the same `Webhook`, on the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, request
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from receiver.errors import RejectedError
from receiver.serve.answers import Answer, refusal
from receiver.serve.gate import Gate, Verified
from receiver.serve.health import ALIVE, Health
from receiver.serve.steps import block
from receiver.serve.webhook import Webhook

READINESS = "/readyz"


@dataclass(frozen=True, slots=True)
class Plane:
    """What the public plane is made of."""

    gate: Gate
    webhook: Webhook
    health: Health


class _Receiver(Flask):
    """Flask for a few fixed paths: no URL is built and no host name looked at, so there is nothing but the path to match."""

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        if request is None:
            return None
        return self.url_map.bind("receiver", path_info=request.path, default_method=request.method)


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

    @app.post(path)
    def webhook() -> Response:
        return _respond(block(plane.webhook.receive(_verify(plane.gate), request.headers.get)))

    @app.get("/healthz")
    def healthz() -> Response:
        return _respond(ALIVE)

    @app.get(READINESS)
    def readyz() -> Response:
        return _respond(block(plane.health.readiness()))

    _answer_errors(app)
    return app


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(RejectedError)
    def rejected(error: RejectedError) -> Response:
        return _respond(refusal(error))

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        # The gate's own word, whoever notices first.
        reason = "method" if error.code == 405 else error.name.lower().replace(" ", "-")
        allowed = tuple(header for header in error.get_headers() if header[0] == "Allow")
        body = {"error": reason, "detail": error.description or ""}
        return _respond(Answer(error.code or 500, reason, body, allowed))


def _verify(gate: Gate) -> Verified:
    digest = gate.head(
        method=request.method,
        content_length=request.headers.get("Content-Length"),
        signature=request.headers.get("X-Hub-Signature-256"),
    )
    body = request.stream.read(gate.max_body_bytes + 1)
    gate.check_size(len(body))
    return gate.body(body, digest)


def _respond(answer: Answer) -> Response:
    status, headers, content = answer.written()
    return Response(content, status, headers)
