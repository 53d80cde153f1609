"""Requests that wait for the journal, written as generators: a step yields a future, and gets its result back.

The code reads from top to bottom, and whoever runs it chooses how to wait: a thread blocks, the event loop goes on with
other requests. JournalError is raised at the `yield`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from flask import Response, request

from receiver.errors import JournalError

Steps = Generator[Any, Any, Response]
"""Yields futures, returns the response."""

UNFINISHED = "receiver.unfinished"
"""The key of the WSGI environment under which `defer` leaves what the event loop has to finish."""

_LONGEST_WAIT_SECONDS = 10.0
_STAND_IN = Response(status=202)


@dataclass(slots=True)
class Unfinished:
    """A request that waits for `future`."""

    steps: Steps
    future: Any

    async def finish(self) -> Response:
        """Go on, on the event loop, until there is a response."""
        while True:
            error, result = None, None
            try:
                result = await self.future
            except Exception as caught:  # noqa: BLE001 - it belongs to the code that waits, which decides
                error = caught
            try:
                self.future = self.steps.send(result) if error is None else self.steps.throw(error)
            except StopIteration as done:
                response: Response = done.value
                return response


def block(steps: Steps) -> Response:
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
        response: Response = done.value
        return response


def defer(steps: Steps) -> Response:
    """Run until the first wait. What is not finished then is left in the environment, and this response stands in for it."""
    try:
        future = next(steps)
    except StopIteration as done:
        response: Response = done.value
        return response
    request.environ[UNFINISHED] = Unfinished(steps, future)
    return _STAND_IN
