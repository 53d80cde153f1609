"""Waiting for an answer: in a thread by blocking, on the event loop without holding it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from receiver.errors import JournalError
from receiver.serve import steps as module
from receiver.serve.answers import Answer
from receiver.serve.steps import Steps, block, finish

Make = Callable[[Any], Any]
"""Returns a future that is done: with this value, or when it is one, with this exception."""


def two_waits(first: Any, second: Any) -> Steps:
    one = yield first
    two = yield second
    return Answer(200, f"{one}+{two}", {})


def careful(future: Any) -> Steps:
    try:
        yield future
    except JournalError as error:
        return Answer(503, f"caught {error}", {})
    return Answer(200, "nothing", {})


def at_once() -> Steps:
    yield from ()
    return Answer(200, "at once", {})


def settled(future: Any, value: Any) -> Any:
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


def in_a_thread(build: Callable[[Make], Steps]) -> Answer:
    return block(build(lambda value: settled(Future(), value)))


def on_the_loop(build: Callable[[Make], Steps]) -> Answer:
    async def run() -> Answer:
        loop = asyncio.get_running_loop()
        return await finish(build(lambda value: settled(loop.create_future(), value)))

    return asyncio.run(run())


ways = pytest.mark.parametrize("way", [in_a_thread, on_the_loop])


@ways
def test_each_result_arrives_where_it_is_waited_for(way: Callable[..., Answer]) -> None:
    assert way(lambda make: two_waits(make(1), make(2))).reason == "1+2"


@ways
def test_an_error_arrives_where_it_is_waited_for(way: Callable[..., Answer]) -> None:
    assert way(lambda make: careful(make(JournalError("full")))).reason == "caught full"


@ways
def test_what_never_waits_is_answered_at_once(way: Callable[..., Answer]) -> None:
    assert way(lambda _: at_once()).reason == "at once"


@ways
@pytest.mark.parametrize("error", [JournalError("x"), KeyError("y")])
def test_an_error_that_nobody_expects_reaches_whoever_runs_it(way: Callable[..., Answer], error: Exception) -> None:
    with pytest.raises(type(error)):
        way(lambda make: two_waits(make(1), make(error)))


def test_a_journal_that_never_answers_is_an_error_in_time_for_github_to_hear_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert module.LONGEST_WAIT_SECONDS < 10
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 0.01)

    async def on_the_loop() -> Answer:
        return await finish(careful(asyncio.get_running_loop().create_future()))

    for answer in (block(careful(Future())), asyncio.run(on_the_loop())):
        assert answer.reason == "caught the journal did not answer in time"


def test_the_loop_goes_on_while_a_request_waits() -> None:
    async def both() -> list[str]:
        loop = asyncio.get_running_loop()
        slow, quick, last = (loop.create_future() for _ in range(3))
        waiting = [asyncio.create_task(finish(steps)) for steps in (two_waits(slow, last), careful(quick))]
        quick.set_exception(JournalError("gone"))
        found = [(await waiting[1]).reason]
        slow.set_result("1")
        last.set_result("2")
        return [*found, (await waiting[0]).reason]

    assert asyncio.run(both()) == ["caught gone", "1+2"]
