"""Waiting for a condition: the one place of the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotReadyError(RuntimeError):
    """A condition did not come true in time."""


def wait_until(condition: Callable[[], T | None], *, what: str, seconds: float = 30, every: float = 0.02) -> T:
    """Call `condition` until it returns something true, and return that.

    Raises NotReadyError naming `what` after `seconds`. Exceptions of the condition pass through: it decides
    which errors mean "not yet".
    """
    end = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() >= end:
            raise NotReadyError(f"gave up waiting for {what} after {seconds:g} s")
        time.sleep(every)
