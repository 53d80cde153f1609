"""A TCP proxy that misbehaves on demand: between the receiver and the API server, TLS passing through it unread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self

_CHUNK = 65_536
_CIPHER_CHANGE, _HANDSHAKE = b"\x14", b"\x16"  # types of TLS records (RFC 8446, 5.1)
_FINISHED_BYTES = 128  # a client's last words of a handshake are shorter, a request is longer
_RST = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s


@dataclass(frozen=True)
class Toxic:
    """What is wrong with the way.

    `latency_seconds` holds back each request, not the TLS handshake. `loses_replies` lets requests through and resets the
    connection when the answer comes. `swallows` takes all bytes and passes none, in both directions, as when the other
    side's host has vanished: TCP stays up and nobody answers. `holds` keeps each request until the way is healed, while
    replies to what was asked before go through.
    """

    latency_seconds: float = 0.0
    loses_replies: bool = False
    swallows: bool = False
    holds: bool = False


HEALTHY = Toxic()


class Proxy:
    """Forwards a port of its own to `upstream` of this machine, in a thread; a context manager."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._toxic = HEALTHY
        self._ways: set[asyncio.Task[None]] = set()
        self._forgotten: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._healed = asyncio.Event()
        self.held = 0
        self.accepted = 0
        self.most_asking = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def poison(self, toxic: Toxic) -> None:
        """Let this be wrong from now on, on open connections too."""
        self._do(lambda: self._worsen(toxic))

    def heal(self) -> None:
        """Pass everything on from now on; connections on which bytes were lost are reset."""
        self._do(self._recover)

    def reset(self) -> None:
        """Reset all open connections."""
        self._do(self._reset)

    def forget(self) -> None:
        """Pass nothing on any more on what is open now, without a word; new connections are served."""
        self._do(lambda: self._forgotten.update(self._ways))

    def down(self) -> None:
        """Reset all connections and refuse new ones."""
        self._call(self._close())

    def up(self) -> None:
        """Listen again, on the same port."""
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self._call(act())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def _worsen(self, toxic: Toxic) -> None:
        self._toxic = toxic
        self._healed.clear()

    def _recover(self) -> None:
        if self._toxic.swallows:
            self._reset()
        self._toxic = HEALTHY
        self._healed.set()

    def _reset(self) -> None:
        for way in self._ways:
            way.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        way = asyncio.current_task()
        assert way is not None
        self._ways.add(way)
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._upstream)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(way, reader, there, is_reply=False))
                both.create_task(self._pass(way, back, writer, is_reply=True))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            # Whoever was cut off sees a reset, the other end a close.
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()
        finally:
            self._ways.discard(way)
            self._forgotten.discard(way)
            self._asking.discard(way)
            for end in (writer, there):
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.close()

    async def _pass(
        self, way: asyncio.Task[None], source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        # Chunks that came together are late together: a request may come in several.
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._deliver(late, target))
            while chunk := await source.read(_CHUNK):
                toxic = self._toxic
                if toxic.swallows or way in self._forgotten:
                    continue
                is_data = not _shakes_hands(chunk)
                if is_data:
                    self._note(way, is_reply=is_reply)
                if is_reply and is_data and toxic.loses_replies:
                    raise ConnectionResetError
                if is_data and not is_reply and toxic.holds:
                    self.held += 1
                    await self._healed.wait()
                latency = toxic.latency_seconds if is_data and not is_reply else 0.0
                late.put_nowait((self._loop.time() + latency, chunk))
            late.put_nowait((self._loop.time(), b""))

    def _note(self, way: asyncio.Task[None], *, is_reply: bool) -> None:
        """Keep count of how many connections have asked and not been answered."""
        if is_reply:
            self._asking.discard(way)
        else:
            self._asking.add(way)
            self.most_asking = max(self.most_asking, len(self._asking))

    async def _deliver(self, late: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await late.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not chunk:
                target.write_eof()
                return
            target.write(chunk)
            await target.drain()


def _shakes_hands(chunk: bytes) -> bool:
    return chunk.startswith(_HANDSHAKE) or (chunk.startswith(_CIPHER_CHANGE) and len(chunk) < _FINISHED_BYTES)
