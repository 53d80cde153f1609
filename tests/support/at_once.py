"""Many deliveries at the same moment, each over a connection of its own, with the seconds that each answer took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.http import Delivery

_SECONDS = 30.0


@dataclass(frozen=True)
class Timed:
    """One answer: its status (0: none came, for the reason `problem`), its lower-case headers, and the seconds that it took."""

    status: int
    headers: dict[str, str]
    seconds: float
    problem: str = ""


def send_at_once(
    port: int, deliveries: Sequence[Delivery], *, on_first: Callable[[], None] = lambda: None
) -> list[Timed]:
    """Send all of them and return the answers in the same order; `on_first` is called when the first answer has come."""

    async def run() -> list[Timed]:
        waiting = [asyncio.create_task(_send(port, delivery.raw())) for delivery in deliveries]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        on_first()
        return await asyncio.gather(*waiting)

    return asyncio.run(run())


async def _send(port: int, content: bytes) -> Timed:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(content)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError) as error:
        return Timed(0, {}, time.monotonic() - began, repr(error))
    first, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return Timed(int(first.split()[1]), headers, time.monotonic() - began)
