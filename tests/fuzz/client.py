"""A client that sends whatever it is given and looks hard at the answer."""

from __future__ import annotations

import asyncio
import random
import re

import uvloop

from tests.fuzz.tally import Tally
from tests.fuzz.wire import Case, case

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
_JSON = b"\r\ncontent-type: application/json\r\n"
_HANG_SECONDS = 30.0
_SHOWN_BYTES = 3_000


def send_many(port: int, *, seed: int, requests: int, connections: int, tally: Tally) -> None:
    """Send so many generated requests; the same seed, number and connections make the same requests."""
    uvloop.run(_send_many(port, seed, requests, connections, tally))


async def _send_many(port: int, seed: int, requests: int, connections: int, tally: Tally) -> None:
    share, rest = divmod(requests, connections)
    clients = (_Client(port, f"{seed}/{index}", tally) for index in range(connections))
    await asyncio.gather(*(client.run(share + (index < rest)) for index, client in enumerate(clients)))


class _Client:
    def __init__(self, port: int, seed: str, tally: Tally) -> None:
        self._port = port
        self._seed = seed
        self._chance = random.Random(seed)
        self._tally = tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._is_fresh = True

    async def run(self, requests: int) -> None:
        for number in range(requests):
            if self._tally.has_seen_enough:
                return
            asked = case(self._chance)
            try:
                async with asyncio.timeout(_HANG_SECONDS):
                    wrong = await self._exchange(asked)
            except TimeoutError:
                wrong = f"no answer within {_HANG_SECONDS:g} s"
            except (OSError, EOFError) as error:
                wrong = f"no whole answer: {error!r}"
            if wrong:
                raw = b"".join(asked.pieces)
                self._tally.fail(f"[{self._seed} #{number}] {wrong}\n  {raw[:_SHOWN_BYTES]!r} ({len(raw)} bytes)")
                self._hang_up()
        self._hang_up()

    async def _exchange(self, asked: Case) -> str | None:
        if not asked.keeps:
            self._hang_up()
        try:
            return await self._ask(asked)
        except (OSError, EOFError):
            if self._is_fresh:
                raise
            # The server may end a connection between two requests; then it is ours to ask again.
            self._hang_up()
            return await self._ask(asked)

    async def _ask(self, asked: Case) -> str | None:
        reader, writer = await self._connected()
        for piece in asked.pieces:
            if not writer.transport.is_closing():
                writer.write(piece)
            if len(asked.pieces) > 1:
                await asyncio.sleep(0)
        if asked.keeps:
            wrong, closes = await self._read_answer(reader, asked)
            self._is_fresh = False
            if closes:
                self._hang_up()
            return wrong
        if not writer.transport.is_closing():
            writer.write_eof()
        try:
            while not reader.at_eof():
                wrong, _ = await self._read_answer(reader, asked)
                if wrong:
                    return wrong
        except (OSError, EOFError):
            # What is no request needs no answer.
            self._tally.seen["closed"] += 1
        self._hang_up()
        return None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[1].transport.is_closing():
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            self._is_fresh = True
        return self._streams

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _read_answer(self, reader: asyncio.StreamReader, asked: Case) -> tuple[str | None, bool]:
        """Read one answer; return what is wrong with it, and whether it ends the connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        self._tally.seen[status] += 1
        length = _LENGTH.search(head)
        content = await reader.readexactly(int(length[1])) if length and asked.has_body else b""
        wrong = None
        if status not in asked.allowed:
            wrong = f"status {status} {content!r} is not one of {sorted(asked.allowed)}"
        elif _JSON in head and content.count(b"\n") != 1 and asked.has_body:
            wrong = f"the answer is not one line: {content!r}"
        elif status in (200, 202) and b'"delivery":"' in content and asked.guid.encode() not in content and asked.keeps:
            wrong = f"the answer belongs to another request: {content!r}"
        return wrong, _CLOSE.search(head) is not None
