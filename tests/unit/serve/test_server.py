"""Waiting in a request without holding up the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from receiver.serve.server import in_greenlet, wait


def test_blocking_code_waits_for_futures_while_the_loop_goes_on() -> None:
    order: list[str] = []

    def view(name: str, futures: list[asyncio.Future[str]]) -> str:
        order.append(f"{name} begins")
        return "+".join(wait(future) for future in futures)

    async def both() -> list[str]:
        loop = asyncio.get_running_loop()
        slow, quick, last = (loop.create_future() for _ in range(3))
        tasks = [asyncio.create_task(in_greenlet(view, "a", [slow, last]))]
        tasks.append(asyncio.create_task(in_greenlet(view, "b", [quick])))
        await asyncio.sleep(0)
        quick.set_result("2")
        found = [await tasks[1]]
        slow.set_result("1")
        last.set_result("3")
        return [*found, await tasks[0]]

    assert asyncio.run(both()) == ["2", "1+3"]
    assert order == ["a begins", "b begins"]


def test_an_error_of_the_future_is_raised_where_the_code_waits() -> None:
    def view(future: asyncio.Future[str]) -> str:
        try:
            wait(future)
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    async def run() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError("it"))
        return str(await in_greenlet(view, future))

    assert asyncio.run(run()) == "caught it"


def test_an_error_of_the_code_itself_reaches_the_caller() -> None:
    def view() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(in_greenlet(view))


def test_code_that_never_waits_needs_no_loop_round() -> None:
    assert asyncio.run(in_greenlet(threading.get_ident)) == threading.get_ident()


def test_waiting_outside_a_request_is_an_error_and_no_hang() -> None:
    with pytest.raises(RuntimeError, match="only a request can wait here"):
        wait(None)
