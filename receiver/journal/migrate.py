"""Bringing the database to this version: one process does it, under a lock; the others only look."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy import Engine, select

from receiver.errors import JournalError, SettingsError
from receiver.journal.engine import reading, writing
from receiver.journal.roles import Roles, grant
from receiver.journal.schema import VERSION, journal, metadata

_ADVISORY_LOCK = 7_235_948_120
_SQLITE_TABLES = {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}


def migrate(engine: Engine, *, now: float, roles: Roles | None = None) -> bool:
    """Create the tables when there are none; return whether anything was done.

    With `roles` (PostgreSQL alone) each plane's role is given its rights, each time. Raises SettingsError when the
    database is of another version, JournalError when it does not answer.
    """
    with writing(engine) as connection:
        # SQLite's BEGIN IMMEDIATE is the lock already.
        if engine.dialect.name == "postgresql":
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        new = not sqlalchemy.inspect(connection).has_table("journal")
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
        if not sqlalchemy.inspect(connection).has_table("journal"):
            raise SettingsError("the journal has no tables yet; run `receiver journal migrate` once")
        _check(connection.execute(select(journal.c.version)).scalar())


def check_objects(engine: Engine) -> None:
    """Raise JournalError when a SQLite journal holds an object that is not ours, such as a planted trigger or view."""
    if engine.dialect.name != "sqlite":
        return
    known = {(kind, name) for kind, name in _known()}
    with reading(engine) as connection:
        rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master").all()
    foreign = sorted(
        f"{kind} {name}" for kind, name, sql in rows if (kind, name) not in known and not _internal(kind, name, sql)
    )
    if foreign:
        raise JournalError(
            f"the journal holds what the receiver did not create: {', '.join(foreign)}; stop, and restore it from a backup"
        )


def _internal(kind: str, name: str, sql: str | None) -> bool:
    """Tell whether SQLite keeps this object for itself: ANALYZE's tables, and the indexes behind UNIQUE and PRIMARY KEY."""
    # By exact names, since whoever may write the file can give a trigger a reserved one.
    if kind == "table":
        return name in _SQLITE_TABLES
    return kind == "index" and name.startswith("sqlite_autoindex_") and sql is None


def _known() -> list[tuple[str, str]]:
    tables = [("table", table.name) for table in metadata.tables.values()]
    return tables + [("index", str(index.name)) for table in metadata.tables.values() for index in table.indexes]


def _check(version: int | None) -> None:
    if version != VERSION:
        raise SettingsError(
            f"the journal is of version {version}, this program of {VERSION}; run the program that belongs to it"
        )
