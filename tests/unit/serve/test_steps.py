"""Waiting in a request: in a thread by blocking, on the event loop without holding it up."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask, Response, request

from receiver.errors import JournalError
from receiver.serve.steps import UNFINISHED, Steps, Unfinished, block, defer


def two_waits(first: Any, second: Any) -> Steps:
    one = yield first
    two = yield second
    return Response(f"{one}+{two}")


def careful(future: Any) -> Steps:
    try:
        yield future
    except JournalError as error:
        return Response(f"caught {error}")
    return Response("nothing")


def at_once() -> Steps:
    yield from ()
    return Response("at once")


def done(value: Any = None, error: Exception | None = None) -> Future[Any]:
    future: Future[Any] = Future()
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
    return future


def test_a_thread_gets_each_result_where_it_waits() -> None:
    assert block(two_waits(done(1), done(2))).get_data(as_text=True) == "1+2"


def test_a_thread_gets_an_error_where_it_waits() -> None:
    assert block(careful(done(error=JournalError("full")))).get_data(as_text=True) == "caught full"


def test_what_never_waits_is_answered_at_once() -> None:
    with Flask("test").test_request_context():
        assert defer(at_once()).get_data(as_text=True) == "at once"
        assert UNFINISHED not in request.environ
    assert block(at_once()).get_data(as_text=True) == "at once"


def test_the_loop_goes_on_while_a_request_waits() -> None:
    async def both() -> list[str]:
        loop = asyncio.get_running_loop()
        slow, quick, last = (loop.create_future() for _ in range(3))
        waiting = [
            asyncio.create_task(deferred(two_waits(slow, last)).finish()),
            asyncio.create_task(deferred(careful(quick)).finish()),
        ]
        quick.set_exception(JournalError("gone"))
        found = [(await waiting[1]).get_data(as_text=True)]
        slow.set_result("1")
        last.set_result("2")
        return [*found, (await waiting[0]).get_data(as_text=True)]

    assert asyncio.run(both()) == ["caught gone", "1+2"]


def deferred(steps: Steps) -> Unfinished:
    with Flask("test").test_request_context():
        assert defer(steps).status_code == 202
        found: Unfinished = request.environ[UNFINISHED]
        return found


@pytest.mark.parametrize("error", [JournalError("x"), KeyError("y")])
def test_an_error_that_the_request_does_not_expect_reaches_whoever_runs_it(error: Exception) -> None:
    with pytest.raises(type(error)):
        block(two_waits(done(1), done(error=error)))
