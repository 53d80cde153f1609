"""Calls of which properties know only that they either work or refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from receiver.errors import RejectedError

T = TypeVar("T")


def attempted(call: Callable[[], T]) -> tuple[T | None, RejectedError | None]:
    """Return what the call returns, or else how it refused."""
    try:
        return call(), None
    except RejectedError as error:
        return None, error
