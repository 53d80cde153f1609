"""Bringing the database to this version: one process does it, under a lock; the others only look."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy
from sqlalchemy import Connection, Engine, select

from receiver.errors import ConflictError, JournalError, SettingsError
from receiver.journal.engine import reading, writing
from receiver.journal.roles import Roles, are_granted, grant
from receiver.journal.schema import VERSION, journal, metadata

ADVISORY_LOCK = 7_235_948_120
"""PostgreSQL's advisory lock under which the tables are made."""
_TRIES = 20
_PAUSE_SECONDS = 2.0


def migrate(
    engine: Engine, *, now: float, roles: Roles | None = None, pause: Callable[[float], None] = time.sleep
) -> bool:
    """Create the tables when there are none; return whether that was done.

    With `roles` (PostgreSQL alone) each plane's role is given its rights. Where nothing is to be done, nothing is locked.
    Where something is, that takes a lock which nobody can write beside, so it is tried for a moment only, and again after a
    `pause` of seconds. Raises SettingsError when the database is of another version, JournalError when it does not answer or
    stays locked.
    """
    for _ in range(_TRIES - 1):
        try:
            return not _is_done(engine, roles) and _migrate(engine, now, roles)
        except ConflictError:
            pause(_PAUSE_SECONDS)
    try:
        return not _is_done(engine, roles) and _migrate(engine, now, roles)
    except ConflictError as error:
        raise JournalError(
            f"somebody keeps the journal's tables locked: {error}; docs/operations.md, PostgreSQL is away, tells how to find whom"
        ) from error


def _is_done(engine: Engine, roles: Roles | None) -> bool:
    with reading(engine) as connection:
        if _has_none(connection):
            return False
        _check(connection.execute(select(journal.c.version)).scalar())
        return roles is None or are_granted(connection, roles)


def _migrate(engine: Engine, now: float, roles: Roles | None) -> bool:
    with writing(engine) as connection:
        new = _has_none(connection)
        # SQLite's BEGIN IMMEDIATE is the lock already. Tables that are there are locked themselves, by whom they belong to:
        # this lock any role may take.
        if new and engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '60s'")
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            new = _has_none(connection)
        if new:
            metadata.create_all(connection)
            connection.execute(journal.insert().values(version=VERSION, migrated_at=now))
        else:
            _check(connection.execute(select(journal.c.version)).scalar())
        if roles is not None:
            grant(connection, roles)
    return new


def check_version(engine: Engine) -> None:
    """Raise SettingsError unless the database is of exactly this version; JournalError when it does not answer."""
    with reading(engine) as connection:
        if _has_none(connection):
            raise SettingsError("the journal has no tables yet; run `receiver journal migrate` once")
        _check(connection.execute(select(journal.c.version)).scalar())


def _has_none(connection: Connection) -> bool:
    return not sqlalchemy.inspect(connection).has_table("journal")


def _check(version: int | None) -> None:
    if version != VERSION:
        raise SettingsError(
            f"the journal is of version {version}, this program of {VERSION}; run the program that belongs to it"
        )
