"""Opening the SQLite file: with every promise that an acknowledgement needs, and writable, whoever else opens it just now."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

_OPENINGS = 20
_BREATH_SECONDS = 0.01
_CHECKPOINT_PAGES = 4_000  # 16 MB; a page that a flood dirties again and again is then copied into the file once
_PASSING = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


def opened(connect: Callable[[], Any], *, durable: bool, busy_timeout_seconds: float) -> Any:
    """Return a connection that can write; one that can only read where that is not to be had.

    The planes are different users. Whichever opens the journal first makes -wal and -shm, and SQLite gives a new file to its
    owner alone before it gives it the database's mode. Whoever looks in between is refused, or can read a moment later and
    not write, and that connection would stay so for good. While another turns a new file to WAL, SQLite refuses at once,
    without the busy timeout, lest both wait for each other. So a lock is told after as many tries, or as soon as
    `busy_timeout_seconds` have gone.
    """
    deadline = time.monotonic() + busy_timeout_seconds
    for tries_left in reversed(range(_OPENINGS)):
        connection = None
        try:
            connection = connect()
            _prepare(connection, durable=durable)
            writable = _can_write(connection, busy_timeout_seconds)
        except Exception as error:
            if connection is not None:
                connection.close()
            at_once = _code(error) == sqlite3.SQLITE_BUSY and time.monotonic() < deadline
            if not tries_left or not (at_once or _code(error) in _PASSING):
                raise
        else:
            if writable or not tries_left:
                return connection
            connection.close()
        time.sleep(_BREATH_SECONDS)
    raise AssertionError("the last try returns or raises")


def is_read_only(error: BaseException) -> bool:
    """Tell whether SQLite says that this connection cannot write."""
    return _code(error) == sqlite3.SQLITE_READONLY


def distrust_schema(connection: Any) -> None:
    """Guard a SQLite connection against what the other plane may have written into the file.

    No functions from its views and triggers, and no page believed unchecked (https://sqlite.org/security.html).
    """
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")


def _prepare(connection: Any, *, durable: bool) -> None:
    # Only a new file takes this: pruned pages can then be given back without rewriting the whole. On any other the
    # statement would still wait for the writers' lock.
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    distrust_schema(connection)


def _can_write(connection: Any, busy_timeout_seconds: float) -> bool:
    # Nobody is waited for: who is told that another writes has what it takes to write.
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA busy_timeout=0")
        try:
            cursor.execute("BEGIN IMMEDIATE")
            # Of a file opened to be read, SQLite notices only here that this will not do.
            cursor.execute("PRAGMA user_version=0")
            cursor.execute("ROLLBACK")
        except Exception as error:
            if _code(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY):
                raise
            if connection.in_transaction:
                cursor.execute("ROLLBACK")
            return not is_read_only(error)
        finally:
            cursor.execute(f"PRAGMA busy_timeout={int(busy_timeout_seconds * 1_000)}")
    return True


def _code(error: BaseException) -> int | None:
    """SQLite's own code of an error, without what extends it."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
