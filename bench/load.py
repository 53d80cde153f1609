"""A load generator that costs little: raw sockets, requests made beforehand, nothing parsed but status and length.

It runs in the process that calls it, on one core; what it needs itself is not available to the server beside it.
"""

from __future__ import annotations

import asyncio
import collections
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_GRACE_SECONDS = 15.0
_MOST_LOST = 1_000
LOST = 0
"""Stands among the statuses for requests whose connection ended before the answer."""


@dataclass(frozen=True)
class Result:
    """What a run showed: `rate` in answers per second, latencies in seconds, `statuses` as status -> number of answers.

    A request is under way from the moment it is handed to the socket until the last byte of its answer.
    """

    rate: float
    p50: float
    p99: float
    p999: float
    statuses: dict[int, int]
    elapsed: float
    latencies: tuple[float, ...] = field(repr=False)

    @property
    def answers(self) -> int:
        """How many answers came."""
        return len(self.latencies)

    def __str__(self) -> str:
        p50, p99, p999 = (f"{seconds * 1_000:.1f}" for seconds in (self.p50, self.p99, self.p999))
        return f"{self.rate:,.0f}/s, p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, {self.statuses}"


def request(url: str, headers: Mapping[str, str], body: bytes = b"", *, method: str = "POST") -> bytes:
    """Return a whole HTTP/1.1 request, ready to be sent."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run(url: str, requests: Iterable[bytes], *, connections: int, seconds: float | None = None) -> Result:
    """Send `requests` over so many connections, each of them one after the other, and measure the answers.

    Ends when `requests` does or after `seconds`, once what is under way is answered; `itertools.cycle` makes
    requests endless. Raises ConnectionError when nothing listens, or when hardly anything is answered.
    """
    return uvloop.run(load(url, requests, connections=connections, seconds=seconds))


async def load(url: str, requests: Iterable[bytes], *, connections: int, seconds: float | None = None) -> Result:
    """Do what `run` does, in a loop that is running already."""
    parts = urlsplit(url)
    state = _State(parts.hostname or "127.0.0.1", parts.port or 80, iter(requests), asyncio.get_running_loop())
    await asyncio.gather(*(state.connect() for _ in range(connections)))
    began = time.perf_counter()
    if seconds is not None:
        state.loop.call_later(seconds, state.end)
    for client in tuple(state.clients):
        client.send_next()
    limit = None if seconds is None else seconds + _GRACE_SECONDS
    try:
        await asyncio.wait_for(state.done.wait(), limit)
    except TimeoutError:
        state.statuses[LOST] += len(state.clients)
    finally:
        for client in tuple(state.clients):
            client.transport.abort()
    if state.failure is not None:
        raise state.failure
    return summary(state.latencies, state.statuses, elapsed=state.last_at - began if state.latencies else 0.0)


def summary(latencies: Iterable[float], statuses: Mapping[int, int], *, elapsed: float) -> Result:
    """Return the figures for a list of latencies."""
    found = sorted(latencies)

    def at(share: float) -> float:
        return found[min(len(found) - 1, int(len(found) * share))] if found else float("nan")

    rate = len(found) / elapsed if elapsed else 0.0
    return Result(rate, at(0.5), at(0.99), at(0.999), dict(sorted(statuses.items())), elapsed, tuple(found))


class _State:
    def __init__(self, host: str, port: int, requests: Iterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.port = port
        self.requests = requests
        self.loop = loop
        self.clients: set[_Client] = set()
        self.connecting: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []
        self.statuses: collections.Counter[int] = collections.Counter()
        self.done = asyncio.Event()
        self.failure: OSError | None = None
        self.last_at = time.perf_counter()

    def end(self) -> None:
        self.requests = iter(())

    async def connect(self) -> None:
        _, client = await self.loop.create_connection(lambda: _Client(self), self.host, self.port)
        self.clients.add(client)

    def reconnect(self, first: bytes) -> None:
        """Go on with another connection, which begins with the request that found the old one closed."""
        task = self.loop.create_task(self._reconnect(first))
        self.connecting.add(task)
        task.add_done_callback(self._reconnected)

    async def _reconnect(self, first: bytes) -> None:
        _, client = await self.loop.create_connection(lambda: _Client(self), self.host, self.port)
        self.clients.add(client)
        client.send(first)

    def _reconnected(self, task: asyncio.Task[None]) -> None:
        self.connecting.discard(task)
        if error := task.exception():
            self.failure = error if isinstance(error, OSError) else OSError(str(error))
            self.done.set()

    def finished(self, client: _Client) -> None:
        """Note that a connection has nothing more to do."""
        self.clients.discard(client)
        if not self.clients and not self.connecting:
            self.done.set()

    def lose(self) -> None:
        """Note an answer that never came."""
        self.statuses[LOST] += 1
        if self.statuses[LOST] > _MOST_LOST and self.statuses[LOST] > len(self.latencies):
            self.failure = ConnectionError("most connections end before their answers")
            self.done.set()


class _Client(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, state: _State) -> None:
        self._state = state
        self._buffer = b""
        self._missing: int | None = None
        self._status = 0
        self._closing = False
        self._sent_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but ancestry.
        self.transport = cast("asyncio.Transport", transport)

    def send_next(self) -> None:
        content = next(self._state.requests, None)
        if content is None:
            self._state.finished(self)
            self.transport.close()
        elif self.transport.is_closing():
            self._state.reconnect(content)
            self._state.finished(self)
        else:
            self.send(content)

    def send(self, content: bytes) -> None:
        self._missing = None
        self._buffer = b""
        self._sent_at = time.perf_counter()
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        if self._missing is None:
            self._buffer = data = self._buffer + data if self._buffer else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            self._status = int(data[9:12])
            self._closing = _CLOSE.search(data, 0, end) is not None
            if length := _LENGTH.search(data, 0, end):
                self._missing = int(length[1]) - (len(data) - end - 4)
            elif _CHUNKED.search(data, 0, end):
                if not data.endswith(_LAST_CHUNK):
                    return
                self._missing = 0
            else:
                self._missing = 0
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._answered()

    def _answered(self) -> None:
        if self._sent_at is None:
            return
        state = self._state
        state.last_at = now = time.perf_counter()
        state.latencies.append(now - self._sent_at)
        state.statuses[self._status] += 1
        self._sent_at = None
        if self._closing:
            self.transport.abort()
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface is asyncio's
        if self._sent_at is not None and self in self._state.clients:
            self._sent_at = None
            self._state.lose()
            content = next(self._state.requests, None)
            if content is not None:
                self._state.reconnect(content)
            self._state.finished(self)
