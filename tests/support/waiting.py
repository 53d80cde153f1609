"""Waiting for a condition: the one place of the tests without a cluster that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T | None], *, what: str, seconds: float = 10.0) -> T:
    """Call `condition` until it returns something true, and return that; raises TimeoutError that names `what`."""
    end = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"gave up waiting for {what} after {seconds:g} s")
        time.sleep(0.01)
