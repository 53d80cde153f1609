"""Answers that wait for the journal, written as generators: a step yields a future, and gets its result back.

The code reads from top to bottom, and whoever runs it chooses how to wait: a thread blocks, the event loop goes on with
other requests. JournalError is raised at the `yield`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from receiver.errors import JournalError
from receiver.serve.answers import Answer

Steps = Generator[Any, Any, Answer]
"""Yields futures, returns the answer."""

LONGEST_WAIT_SECONDS = 8.0
"""For one future. GitHub hears no answer that comes after 10 s, and reads the one that says why if it comes before."""


def block(steps: Steps) -> Answer:
    """Wait in this thread, as any WSGI server expects; futures are those of threads.

    What does not come within LONGEST_WAIT_SECONDS is a JournalError, here and in `finish`.
    """
    try:
        future = next(steps)
        while True:
            try:
                result = future.result(LONGEST_WAIT_SECONDS)
            except TimeoutError:
                future = steps.throw(_late())
            except Exception as error:  # noqa: BLE001 - it belongs to the code that waits, which decides
                future = steps.throw(error)
            else:
                future = steps.send(result)
    except StopIteration as done:
        answer: Answer = done.value
        return answer


async def finish(steps: Steps) -> Answer:
    """Wait on the event loop, which goes on with others meanwhile; futures are those of the loop."""
    loop = asyncio.get_running_loop()
    try:
        future = next(steps)
        while True:
            # What `asyncio.wait_for` does, for a tenth of its cost.
            deadline = loop.call_later(LONGEST_WAIT_SECONDS, _give_up, future)
            try:
                result = await future
            except Exception as error:  # noqa: BLE001 - as above
                future = steps.throw(error)
            else:
                future = steps.send(result)
            finally:
                deadline.cancel()
    except StopIteration as done:
        answer: Answer = done.value
        return answer


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(_late())


def _late() -> JournalError:
    return JournalError("the journal did not answer in time")
