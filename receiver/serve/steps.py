"""Answers that wait for the journal, written as generators: a step yields a future, and gets its result back.

The code reads from top to bottom, and whoever runs it chooses how to wait: a thread blocks, the event loop goes on with
other requests. JournalError is raised at the `yield`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from receiver.errors import JournalError
from receiver.serve.answers import Answer

Steps = Generator[Any, Any, Answer]
"""Yields futures, returns the answer."""

_LONGEST_WAIT_SECONDS = 10.0


def block(steps: Steps) -> Answer:
    """Wait in this thread, as any WSGI server expects; futures are those of threads."""
    try:
        future = next(steps)
        while True:
            try:
                result = future.result(_LONGEST_WAIT_SECONDS)
            except TimeoutError:
                future = steps.throw(JournalError("the journal did not answer in time"))
            except Exception as error:  # noqa: BLE001 - it belongs to the code that waits, which decides
                future = steps.throw(error)
            else:
                future = steps.send(result)
    except StopIteration as done:
        answer: Answer = done.value
        return answer


async def finish(steps: Steps) -> Answer:
    """Wait on the event loop, which goes on with others meanwhile; futures are those of the loop."""
    try:
        future = next(steps)
        while True:
            try:
                result = await future
            except Exception as error:  # noqa: BLE001 - as above
                future = steps.throw(error)
            else:
                future = steps.send(result)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
