"""A plane's internal port: health and metrics, to read only. No route changes anything, so none needs a token."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Probes every few seconds are no news."""


class PrivatePort:
    """Serves /healthz and /metrics in a thread of its own."""

    def __init__(self, host: str, port: int, *, registry: CollectorRegistry, healthy: Callable[[], bool]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._healthy = healthy
        server_class = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, self._answer, server_class=server_class, handler_class=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="private-port", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return [b""]
        if environ["PATH_INFO"] == "/metrics":
            metrics: Iterable[bytes] = self._metrics(environ, start_response)
            return metrics
        found = environ["PATH_INFO"] == "/healthz"
        status, body = ("404 Not Found", b"not found\n")
        if found:
            status, body = ("200 OK", b"ok\n") if self._healthy() else ("503 Service Unavailable", b"not healthy\n")
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
