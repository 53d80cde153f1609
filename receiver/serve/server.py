"""The front: granian reads HTTP, the gate refuses, the webhook answers, and nobody waits for anybody else.

Bodies are read on the event loop, so slow clients occupy no thread. A delivery is decided right there too: where it has to wait
for the journal's commit, the loop goes on with others (`receiver.serve.steps`). So one thread serves all, without hand-overs.
Everything else but /readyz, which waits for the journal too, goes to the Flask application; for any other server that has both.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Protocol

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.rsgi import ProtocolClosed as RSGIProtocolClosed
from granian.server.embed import Server

from receiver.errors import ReceiverError, RejectedError
from receiver.serve.answers import INTERNAL, refusal
from receiver.serve.app import READINESS, Plane
from receiver.serve.gate import Verified
from receiver.serve.observe import Observer
from receiver.serve.reading import SMALL_BODY_BYTES, Body, Room
from receiver.serve.steps import finish

_log = logging.getLogger(__name__)
_BACKLOG = 1_024
_MOST_CONNECTIONS = 8_192
_OTHER_FILES = 256
_HEADER_MILLISECONDS = 5_000
_LOOK_SECONDS = 0.001
_MOST_SHARING = 64
_BUFFER_BYTES = 32 * 1024
_M_MMAP_THRESHOLD = -3  # <malloc.h>
_BIG_BLOCK_BYTES = 256 * 1024
_LEAST_ROOM_BYTES = 64 * 1024 * 1024
_SIGNATURE = "x-hub-signature-256"


class Front:
    """An RSGI application (granian's protocol) around the public plane and its WSGI application."""

    def __init__(
        self,
        plane: Plane,
        wsgi_app: Callable[..., Iterable[bytes]],
        observer: Observer,
        *,
        path: str,
        body_timeout_seconds: float,
    ) -> None:
        self._gate = plane.gate
        self._webhook = plane.webhook
        self._health = plane.health
        self._wsgi_app = wsgi_app
        self._observer = observer
        self._path = path
        self._body_timeout_seconds = body_timeout_seconds
        self._mismatches: list[asyncio.Future[None]] = []
        self._room = Room(limit_bytes=max(_LEAST_ROOM_BYTES, 2 * plane.gate.max_body_bytes))
        self.active = 0

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        self.active += 1
        # Flask takes several slashes at the beginning for one, and so must whoever answers in its place.
        path = "/" + scope.path.lstrip("/")
        try:
            if path == self._path:
                await self._deliver(scope, proto)
            else:
                await _answer(proto, Body(proto, scope.headers, self._room), *await self._other(path, scope))
        except RSGIProtocolClosed:
            _log.debug("client went away", extra={"path": scope.path})
        except Exception:  # noqa: BLE001 - whatever it was, the client gets an answer and the log the cause
            _log.exception("request failed")
            self._observer.refused(INTERNAL.status, INTERNAL.reason)
            proto.response_bytes(*INTERNAL.written())
        finally:
            self.active -= 1

    async def _deliver(self, scope: Any, proto: Any) -> None:
        began = time.monotonic()
        headers = scope.headers
        body = Body(proto, headers, self._room)
        signatures = headers.get_all(_SIGNATURE)
        try:
            digest = self._gate.head(
                method=scope.method,
                content_length=headers.get("content-length"),
                signature=signatures[0] if len(signatures) == 1 else None,
            )
            content = await body.read(self._gate.check_size, timeout_seconds=self._body_timeout_seconds)
            verified = await self._verify(content, digest)
        except RejectedError as error:
            self._observer.refused(error.status, error.reason)
            await _answer(proto, body, *_refusal(error.status, error.reason, error.detail))
        else:
            answer = await finish(self._webhook.receive(verified, partial(_header, headers)))
            proto.response_bytes(*answer.written())
            self._observer.answered(time.monotonic() - began)
        finally:
            body.release()

    async def _verify(self, content: bytes, digest: bytes) -> Verified:
        """Check a signature as `Gate.body` does, but look at the secret files once for many that do not match meanwhile.

        A flood of forged requests would otherwise spend half of its cost on looking. The look comes after each of them, so none
        that was signed with a rotated secret is refused. Only a few small bodies may wait for it: they hold room that genuine
        ones need, and cannot give way any more.
        """
        found = self._gate.check(content, digest)
        if isinstance(found, Verified):
            return found
        if len(content) > SMALL_BODY_BYTES or len(self._mismatches) >= _MOST_SHARING:
            self._gate.look()
            return self._gate.check_again(found)
        loop = asyncio.get_running_loop()
        looked: asyncio.Future[None] = loop.create_future()
        if not self._mismatches:
            loop.call_later(_LOOK_SECONDS, self._look)
        self._mismatches.append(looked)
        await looked
        return self._gate.check_again(found)

    def _look(self) -> None:
        waiting, self._mismatches = self._mismatches, []
        try:
            self._gate.look()
        finally:
            for looked in waiting:
                # Cancelled where its client has gone away.
                if not looked.done():
                    looked.set_result(None)

    async def _other(self, path: str, scope: Any) -> tuple[int, list[tuple[str, str]], bytes]:
        if path == READINESS and scope.method in ("GET", "HEAD"):
            # Flask's view would hold up the loop while it waits for the journal.
            status, headers, content = (await finish(self._health.readiness())).written()
            return status, headers, content if scope.method == "GET" else b""
        answer: list[tuple[int, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            answer.append((int(status[:3]), headers))

        body = b"".join(self._wsgi_app(_environment(scope), start_response))
        return (*answer[0], body)


def _header(headers: Any, name: str) -> str | None:
    """Look a header up as `receiver.serve.webhook.Headers` says: a doubled header is not one of the two."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None


@lru_cache(maxsize=64)
def _refusal(status: int, reason: str, detail: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return the answer to a refusal, made once: a flood of forged requests asks for the same again."""
    return refusal(RejectedError(status, reason, detail)).written()


async def _answer(proto: Any, body: Body, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
    """Answer at once; when the body was not read to its end, that is the end of the connection."""
    if body.is_whole:
        proto.response_bytes(status, headers, content)
    elif not body.is_coming:
        proto.response_bytes(status, [*headers, ("connection", "close")], content)
    else:
        # The stream keeps the request open below; the answer's length tells the client that it has all of it.
        transport = proto.response_stream(status, [*headers, ("connection", "close")])
        await transport.send_bytes(content)
        await body.swallow()


def _environment(scope: Any) -> dict[str, Any]:
    """Return the WSGI environment (PEP 3333) of a request whose headers and body are of no interest."""
    return {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        # PEP 3333: bytes in the guise of Latin-1, here and in the query.
        "PATH_INFO": scope.path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode("utf-8", "surrogateescape").decode("latin-1"),
        "SERVER_NAME": "receiver",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": "HTTP/" + scope.http_version,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _return_big_blocks() -> None:
    """Have memory of the size of a big body given back to the system as soon as it is free, where the C library can.

    glibc raises the size from which it does so with each such block, up to 32 MB; bodies then pile up in its heap, in pieces.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BIG_BLOCK_BYTES)


def _most_connections() -> int:
    """Raise the limit of open files as far as it is of use, and return for how many connections it then suffices.

    Without files to spare, granian would ask in vain for one connection after the other, without a pause and
    deaf to its own stop.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OTHER_FILES
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(_MOST_CONNECTIONS, files - _OTHER_FILES))


class Application(Protocol):
    """What `serve` serves: an RSGI application that tells how many requests it has in hand."""

    active: int

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""


async def serve(
    front: Application, *, host: str, port: int, shutdown_seconds: float, ready: Callable[[], None]
) -> float:
    """Serve until SIGTERM or SIGINT; then take no new connections, finish what was begun, and return when (monotonic) it came.

    A second signal, or `shutdown_seconds`, ends it at once.
    """
    _return_big_blocks()
    # What was made until now stays for good; looking through it again and again would stop all requests meanwhile.
    gc.collect()
    gc.freeze()
    server = Server(
        front,
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        # What granian calls so is the number of connections that it accepts.
        backpressure=_most_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_MILLISECONDS, max_buffer_size=_BUFFER_BYTES),
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    stopped_at: list[float] = []

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()
        stopped_at.append(time.monotonic())
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    serving = loop.create_task(server.serve())
    loop.call_soon(ready)
    stopped = loop.create_task(stopping.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.is_set():
        stopped.cancel()
        await serving
        raise ReceiverError("the HTTP server ended by itself")
    await asyncio.wait({serving}, timeout=shutdown_seconds)
    if not serving.done():
        _log.warning("stopped with requests unanswered", extra={"active": front.active})
    return stopped_at[0]
