"""Clients that mean no good: they connect, and then say nothing, half of it, or all of it very slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

_HEAD = b"POST /webhook HTTP/1.1\r\nHost: receiver.example\r\nX-GitHub-Event: push\r\n"
_FORGED = _HEAD + b"X-Hub-Signature-256: sha256=" + b"0" * 64 + b"\r\n"
_DRIP_SECONDS = 0.05
Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Wait until the server has had enough."""
    await reader.read()


async def stop_in_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send half a head."""
    writer.write(_FORGED[:-30])
    await reader.read()


async def drip_the_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a head that never ends, byte by byte."""
    await _drip(writer, _HEAD + b"X-Long: ", b"a")


async def drip_a_small_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a body of usual size byte by byte."""
    await _drip(writer, _FORGED + b"Content-Length: 8000\r\n\r\n", b"a")


async def drip_a_big_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send 200 KB of a big body, then byte by byte."""
    await _drip(writer, _FORGED + b"Content-Length: 20000000\r\n\r\n" + b"a" * 200_000, b"a")


async def send_crumbs(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a body in chunks of a byte."""
    await _drip(writer, _FORGED + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 20)


ATTACKS: dict[str, tuple[Attack, ...]] = {
    "say nothing": (say_nothing,),
    "stop in the head": (stop_in_the_head,),
    "drip the head": (drip_the_head,),
    "drip a small body": (drip_a_small_body,),
    "drip a big body": (drip_a_big_body,),
    "send crumbs": (send_crumbs,),
}
MIXED = tuple(attack for attacks in ATTACKS.values() for attack in attacks)


@asynccontextmanager
async def crowd(port: int, attacks: tuple[Attack, ...], *, size: int) -> AsyncIterator[None]:
    """Keep so many attackers at it, each of whom comes back when the server sends it away; all are there at the start."""
    tasks = []
    there = [asyncio.Event() for _ in range(size)]
    for index, event in enumerate(there):
        tasks.append(asyncio.create_task(_attack_forever(port, attacks[index % len(attacks)], event)))
    await asyncio.gather(*(event.wait() for event in there))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _attack_forever(port: int, attack: Attack, there: asyncio.Event) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_DRIP_SECONDS)
            continue
        there.set()
        try:
            await attack(reader, writer)
        except (OSError, RuntimeError):
            # uvloop says RuntimeError of a connection that the other side has ended.
            pass
        finally:
            writer.transport.abort()


async def _drip(writer: asyncio.StreamWriter, beginning: bytes, crumb: bytes) -> None:
    writer.write(beginning)
    while not writer.transport.is_closing():
        writer.write(crumb)
        await asyncio.sleep(_DRIP_SECONDS)
