"""Bodies on their way in, from a client that this file plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from granian.rsgi import ProtocolClosed

from receiver.errors import RejectedError
from receiver.serve.reading import Body, Room

PART = b"x" * 1_000


class Client:
    """What granian shows of a request: parts that come when they are let go, `None` for the end of all."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked = 0
        self.is_drained = asyncio.Event()

    def send(self, *parts: bytes | None) -> None:
        for part in parts:
            self.parts.put_nowait(part)

    async def __call__(self) -> bytes:
        content = b""
        while (part := await self.parts.get()) is not None:
            content += part
            if part == b"":
                raise ProtocolClosed
        return content

    def __aiter__(self) -> Client:
        assert self.asked == 0, "granian refuses a second iterator"
        return self

    async def __anext__(self) -> bytes:
        self.asked += 1
        if self.parts.empty():
            self.is_drained.set()
        part = await self.parts.get()
        if part is None:
            raise StopAsyncIteration
        return part


def body_of(client: Client, room: Room, *, length: int | None, **headers: str) -> Body:
    framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
    return Body(client, {**framing, **headers}, room)


def at_most(limit: int) -> Callable[[int], None]:
    def check(size: int) -> None:
        if size > limit:
            raise RejectedError(413, "too-large", "")

    return check


async def read(body: Body, *, limit: int = 10**9, seconds: float = 5.0) -> bytes:
    return await body.read(at_most(limit), timeout_seconds=seconds)


def refused(room: Room, reading: Callable[[Room], Awaitable[object]]) -> tuple[int, str]:
    async def attempt() -> None:
        await reading(room)

    with pytest.raises(RejectedError) as caught:
        asyncio.run(attempt())
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize("length", [3_000, 300_000, None])
def test_a_body_is_read_whole_and_its_room_given_back(length: int | None) -> None:
    room = Room(limit_bytes=10**6)
    size = length or 5_000

    async def scenario() -> None:
        client = Client()
        client.send(*[PART] * (size // 1_000), None)
        body = body_of(client, room, length=length)
        assert body.is_coming
        assert await read(body) == b"x" * size
        assert body.is_whole
        assert room.used_bytes == size
        body.release()
        assert room.used_bytes == 0

    asyncio.run(scenario())


def test_a_request_without_a_body_is_whole_from_the_start() -> None:
    assert Body(Client(), {}, Room(limit_bytes=1)).is_whole


def test_who_waits_to_be_told_to_go_on_is_not_listened_to_after_a_refusal() -> None:
    assert not body_of(Client(), Room(limit_bytes=1), length=5, expect="100-continue").is_coming


@pytest.mark.parametrize("length", [3_000, 300_000, None])
def test_a_body_that_does_not_come_is_408(length: int | None) -> None:
    async def reading(room: Room) -> None:
        await read(body_of(Client(), room, length=length), seconds=0.01)

    assert refused(Room(limit_bytes=10**6), reading) == (408, "slow")


@pytest.mark.parametrize("length", [3_000, 300_000])
def test_a_body_that_ends_too_early_is_400(length: int) -> None:
    async def reading(room: Room) -> None:
        client = Client()
        client.send(PART, b"", None)
        await read(body_of(client, room, length=length))

    assert refused(Room(limit_bytes=10**6), reading) == (400, "incomplete")


def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_long() -> None:
    client = Client()
    client.send(*[PART] * 10)

    async def reading(room: Room) -> None:
        await read(body_of(client, room, length=None), limit=2_500)

    assert refused(Room(limit_bytes=10**6), reading) == (413, "too-large")
    assert client.asked == 3


def test_the_body_that_began_first_gives_way_to_those_that_flow() -> None:
    async def scenario() -> None:
        room = Room(limit_bytes=250_000)
        stalled, flowing = Client(), Client()
        stalled.send(*[PART] * 200)
        first, second = body_of(stalled, room, length=300_000), body_of(flowing, room, length=100_000)
        waiting = asyncio.create_task(read(first))
        await stalled.is_drained.wait()
        flowing.send(*[PART] * 100)
        assert len(await read(second)) == 100_000
        with pytest.raises(RejectedError) as caught:
            await waiting
        assert (caught.value.status, caught.value.reason) == (503, "crowded")
        assert room.used_bytes == 100_000

    asyncio.run(scenario())


def test_a_small_body_that_lags_behind_its_head_outlives_stalled_big_ones_and_lengths_without_bodies() -> None:
    async def scenario() -> None:
        room = Room(limit_bytes=100_000)
        stalled, small = Client(), Client()
        stalled.send(*[PART] * 90)
        first = asyncio.create_task(read(body_of(stalled, room, length=300_000)))
        await stalled.is_drained.wait()
        genuine = asyncio.create_task(read(body_of(small, room, length=8_000)))
        heads = [asyncio.create_task(read(body_of(Client(), room, length=5_000))) for _ in range(3)]
        await asyncio.sleep(0)
        small.send(*[PART] * 8, None)
        assert len(await genuine) == 8_000
        with pytest.raises(RejectedError) as caught:
            await first
        assert caught.value.reason == "crowded"
        for head in heads:
            head.cancel()
        await asyncio.gather(*heads, return_exceptions=True)

    asyncio.run(scenario())


def test_many_lengths_without_bodies_do_not_drive_out_a_body_that_flows() -> None:
    async def scenario() -> None:
        room = Room(limit_bytes=200_000)
        flowing = Client()
        big = asyncio.create_task(read(body_of(flowing, room, length=90_000)))
        await asyncio.sleep(0)
        heads = []
        for _ in range(45):
            flowing.send(PART, PART)
            heads += [asyncio.create_task(read(body_of(Client(), room, length=10_000))) for _ in range(5)]
            await asyncio.sleep(0)
        assert len(await big) == 90_000
        for head in heads:
            head.cancel()
        await asyncio.gather(*heads, return_exceptions=True)
        assert room.used_bytes <= 200_000

    asyncio.run(scenario())


def test_where_nobody_else_can_give_way_the_one_that_grows_is_refused() -> None:
    async def reading(room: Room) -> None:
        client = Client()
        client.send(*[PART] * 300)
        await read(body_of(client, room, length=300_000))

    assert refused(Room(limit_bytes=150_000), reading) == (503, "crowded")


def test_crumbs_are_taken_ever_more_rarely_and_a_flow_at_once() -> None:
    async def taken(part: bytes, seconds: float) -> int:
        client = Client()
        client.send(*[part] * 1_000)
        with pytest.raises(RejectedError):
            await read(body_of(client, Room(limit_bytes=10**9), length=None), seconds=seconds)
        return client.asked

    assert asyncio.run(taken(b"x", 0.2)) < 30
    assert asyncio.run(taken(PART, 0.5)) == 1_001


def test_what_is_swallowed_takes_no_room() -> None:
    async def scenario() -> None:
        room = Room(limit_bytes=10)
        client = Client()
        client.send(*[PART] * 300, None)
        body = body_of(client, room, length=None)
        await body.swallow()
        assert (client.asked, room.used_bytes, body.is_whole) == (301, 0, True)

    asyncio.run(scenario())
