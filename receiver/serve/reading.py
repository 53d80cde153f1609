"""Bodies on their way in: bounded in size, in time, in memory over all of them, and in what a slow one costs."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

from granian.rsgi import ProtocolClosed

from receiver.errors import RejectedError

SMALL_BODY_BYTES = 64 * 1024
"""Up to here a body is gathered below Python, and costs nothing to keep a moment longer."""
_CRUMB_BYTES = 512
_CRUMBS = 16
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 1.0
_LINGER_BYTES = 512 * 1024 * 1024
_LINGER_SECONDS = 15.0


def _crowded() -> RejectedError:
    return RejectedError(503, "crowded", "too many bodies are arriving at the same time; redeliver it later")


def _incomplete() -> RejectedError:
    return RejectedError(400, "incomplete", "the client stopped sending before the end of its body")


class Room:
    """The memory that the bodies of all requests share.

    When it is used up, the body that began first among those not yet whole gives way, and its client is answered 503. So
    whoever sends something and then stalls holds nothing for long, while a body that flows is whole before its turn comes.

    A length alone is cheap to announce. So when bodies of which nothing is known to have come hold more than half of the room,
    the first of those gives way instead; while they hold less, small genuine bodies are among them, and the stalled big ones go.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._arriving: dict[Body, None] = {}
        self._announced: dict[Body, int] = {}
        self._announced_bytes = 0
        self.used_bytes = 0

    def begin(self, body: Body) -> None:
        """Count a body among those that arrive."""
        self._arriving[body] = None

    def end(self, body: Body) -> None:
        """Count a body among those that are whole, or of no interest any more."""
        self._arriving.pop(body, None)
        self._announced_bytes -= self._announced.pop(body, 0)

    def announce(self, body: Body, size_bytes: int) -> None:
        """Give memory to a body of which only the length is known; raises RejectedError(503) as `take` does."""
        self._announced[body] = size_bytes
        self._announced_bytes += size_bytes
        self.take(body, size_bytes)

    def take(self, body: Body, size_bytes: int) -> None:
        """Give memory to a body that arrives; raises RejectedError(503) when nobody else can give way."""
        self.used_bytes += size_bytes
        body.held_bytes += size_bytes
        while self.used_bytes > self._limit_bytes:
            announced = self._announced if 2 * self._announced_bytes > self._limit_bytes else {}
            silent = (other for other in announced if other is not body)
            first = next(silent, None) or next(iter(self._arriving), body)
            if first is body:
                raise _crowded()
            first.give_way()

    def give_back(self, body: Body) -> None:
        """Take the memory of a body back."""
        self.used_bytes -= body.held_bytes
        body.held_bytes = 0


class Body:
    """The body of one request in granian's protocol: read it, or swallow what comes of it, and release it in the end."""

    __slots__ = (
        "_broken",
        "_gave_way",
        "_in_chunks",
        "_is_interrupted",
        "_length",
        "_parts",
        "_pause_seconds",
        "_proto",
        "_reader",
        "_received_parts",
        "_room",
        "_stream",
        "held_bytes",
        "is_whole",
        "received_bytes",
    )

    def __init__(self, proto: Any, headers: Any, room: Room) -> None:
        self._proto = proto
        self._room = room
        self._in_chunks = "transfer-encoding" in headers
        length = headers.get("content-length", "0")
        self._length = None if self._in_chunks or not length.isdecimal() else int(length)
        self._stream: Any = None
        self._parts: io.BytesIO | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._is_interrupted = False
        self._gave_way = False
        self.received_bytes = 0
        self._received_parts = 0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        # Who waits to be told to go on sends nothing when told no.
        self._broken = "expect" in headers
        self.held_bytes = 0
        self.is_whole = self._length == 0

    @property
    def is_coming(self) -> bool:
        """Whether the client may be sending it still, and somebody could listen."""
        return not self.is_whole and not self._broken

    async def read(self, check_size: Callable[[int], None], *, timeout_seconds: float) -> bytes:
        """Return the whole body.

        Raises RejectedError: 408 when it does not come in time, 503 when it had to give way, 400 when the client stops
        sending before its end, and what `check_size` raises for the number of bytes so far.
        """
        self._room.begin(self)
        self._reader = asyncio.current_task()
        # What `asyncio.timeout` does, for a tenth of its cost: it was more than to check the signature.
        deadline = asyncio.get_running_loop().call_later(timeout_seconds, self._interrupt)
        try:
            if self._length is not None and self._length <= SMALL_BODY_BYTES:
                content = await self._read_at_once(self._length)
            else:
                content = await self._read_in_parts(check_size)
        except asyncio.CancelledError as error:
            if not self._is_interrupted or (self._reader and self._reader.uncancel()):
                raise
            self._broken = True
            if self._gave_way:
                raise _crowded() from error
            raise RejectedError(408, "slow", f"the body did not arrive within {timeout_seconds:g} seconds") from error
        except ProtocolClosed as error:
            raise _incomplete() from error
        finally:
            deadline.cancel()
            self._reader = None
            self._room.end(self)
        self.is_whole = True
        return content

    def _interrupt(self) -> None:
        """Make `read` fail where it waits; once, and only while it does."""
        if self._reader is not None and not self._is_interrupted:
            self._is_interrupted = True
            self._reader.cancel()

    async def _read_at_once(self, length: int) -> bytes:
        # Gathered below Python: a client that drips a small body wakes us once.
        self._room.announce(self, length)
        self._broken = True
        content: bytes = await self._proto()
        return content

    async def _read_in_parts(self, check_size: Callable[[int], None]) -> bytes:
        # BytesIO grows in place and hands out what it holds without a copy; a list to be joined would need twice as much.
        self._parts = io.BytesIO()
        size = 0
        while size != self._length and (part := await self._next()) is not None:
            size += len(part)
            check_size(size)
            self._room.take(self, len(part))
            self._parts.write(part)
        if self._length is not None and size < self._length:
            raise _incomplete()
        content = self._parts.getvalue()
        self._parts = None
        return content

    async def swallow(self) -> None:
        """Listen on, within bounds, and forget: a connection closed with bytes unread is reset, which could eat our answer."""
        self.release()
        size = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self.is_coming and size < _LINGER_BYTES and (part := await self._next()) is not None:
                    size += len(part)
        except TimeoutError:
            self._broken = True

    def give_way(self) -> None:
        """Drop what has arrived, and let `read` fail with 503 soon."""
        self._gave_way = True
        self.release()
        self._interrupt()

    def release(self) -> None:
        """Give the memory back; what `read` returned is no longer accounted for."""
        self._parts = None
        self._room.end(self)
        self._room.give_back(self)

    async def _next(self) -> bytes | None:
        """Return the next part, None after the last. Who sends nothing but crumbs is listened to ever more rarely."""
        if (self._received_parts - _CRUMBS) * _CRUMB_BYTES > self.received_bytes:
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        if self._stream is None:
            # Only once: granian refuses a second iterator.
            self._stream = self._proto.__aiter__()
        try:
            part: bytes = await self._stream.__anext__()
        except StopAsyncIteration:
            self.is_whole = True
            return None
        self.received_bytes += len(part)
        self._received_parts += 1
        return part
