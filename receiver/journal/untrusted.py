"""What others have written: rows that the public plane may have forged (on SQLite it can write anything), and texts."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row

from receiver.errors import TamperedError

LONGEST_PAYLOAD_BYTES = 1024 * 1024  # four times what is stored of a payload unless the settings say otherwise
_LARGEST = 2**62  # leaves room to count on
_INTEGERS = ("id", "generation", "attempts", "lease", "salt")
_TEXTS = ("trigger", "guid", "repository", "ref", "head_sha", "run_name")
_TIMES = ("waiting_since",)
_KEYS = ("job_key", "push_key")
_UNSTORABLE = dict.fromkeys((0, *range(0xD800, 0xE000)), "\N{REPLACEMENT CHARACTER}")


def unpacked(body: bytes | None, *, limit_bytes: int) -> bytes | None:
    """Return a stored payload, None when there is none, it is garbage, or it is longer than that, however well it is packed."""
    if body is None:
        return None
    unpacking = zlib.decompressobj()
    try:
        payload = unpacking.decompress(body, limit_bytes)
    except zlib.error:
        return None
    return payload if unpacking.eof else None


def storable(value: Any) -> Any:
    """Return a value as a column takes it: in others' words can stand a NUL (refused by PostgreSQL) or half a surrogate pair."""
    return value.translate(_UNSTORABLE) if isinstance(value, str) else value


@contextmanager
def reading_rows() -> Iterator[None]:
    """Raise TamperedError where a row holds what no column of its type can; SQLite keeps any value in any column."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise TamperedError(
            f"the journal holds a row that the receiver did not write ({error}); stop `serve`, and restore a backup"
        ) from error


def digest(value: Any) -> bytes:
    """Return a stored key; raises ValueError for anything else (of a number `bytes` would make as many zeros)."""
    if isinstance(value, bytes) and len(value) == 32:
        return value
    raise ValueError("a key is no digest")


def keys_among(values: Iterable[Any]) -> list[bytes]:
    """Return the stored keys among these; anything else was not written by the receiver, and names nothing."""
    return [value for value in values if isinstance(value, bytes)]


def require_types(row: Row[Any]) -> None:
    """Raise TypeError or ValueError unless what was selected of this row of `jobs` fits its columns."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's documented name
    for names, kind in ((_INTEGERS, int), (_TEXTS, str), (_TIMES, float | int)):
        for name in names:
            if name in values and not isinstance(values[name], kind):
                raise TypeError(f"{name} is {type(values[name]).__name__}")
    for name in _INTEGERS:
        if abs(values.get(name, 0)) > _LARGEST:
            raise ValueError(f"{name} is too large")
    for name in _TIMES:
        if not math.isfinite(values.get(name, 0.0)):
            raise ValueError(f"{name} is no time")
    for name in _KEYS:
        if name in values:
            digest(values[name])
