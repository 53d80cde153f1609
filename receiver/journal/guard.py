"""Noticing that somebody else changed the schema: a planted trigger could rewrite states behind our back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.schema import CreateIndex, CreateTable

from receiver.errors import TamperedError
from receiver.journal.engine import reading
from receiver.journal.roles import POLICIES
from receiver.journal.schema import metadata

_SQLITE_TABLES = {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}
_SECONDS = 5.0
_CHECKED = "receiver_schema_checked"
# Every search_path, so that a table of ours cannot be hidden by another of its name.
_POSTGRESQL = """
SELECT 'trigger ' || t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
 WHERE NOT t.tgisinternal AND c.relname = ANY(:tables) AND pg_table_is_visible(c.oid)
UNION ALL
SELECT 'rule ' || r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
 WHERE c.relname = ANY(:tables) AND pg_table_is_visible(c.oid)
UNION ALL
SELECT 'policy ' || p.polname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
 WHERE c.relname = ANY(:tables) AND pg_table_is_visible(c.oid) AND p.polname <> ALL(:policies)
UNION ALL
SELECT 'relation ' || c.relname || ' that is no table' FROM pg_class c
 WHERE c.relname = ANY(:tables) AND pg_table_is_visible(c.oid) AND c.relkind <> 'r'
"""


def check_objects(engine: Engine) -> None:
    """Raise TamperedError when the journal holds an object that is not ours, such as a planted trigger or view."""
    with reading(engine) as connection:
        _check(connection)


def guard(engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
    """From now on no transaction of this engine works on a schema that is not ours: it raises TamperedError instead.

    SQLite tells in each transaction whether the schema has changed, so nothing gets in between. PostgreSQL is asked every
    five seconds; there only the owner could plant anything, and neither plane is that.
    """

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        known: dict[Any, Any] = connection.info
        if connection.dialect.name == "sqlite":
            version = connection.exec_driver_sql("PRAGMA schema_version").scalar()
            if known.get(_CHECKED) != version:
                _check(connection)
                known[_CHECKED] = version
        elif clock() - known.get(_CHECKED, -_SECONDS) >= _SECONDS:
            _check(connection)
            known[_CHECKED] = clock()


def _check(connection: Connection) -> None:
    foreign = sorted(
        set(_foreign_in_sqlite(connection) if connection.dialect.name == "sqlite" else _foreign(connection))
    )
    if foreign:
        raise TamperedError(
            f"the journal holds what the receiver did not create: {', '.join(foreign)}; stop, and restore it from a backup"
        )


def _foreign(connection: Connection) -> Iterator[str]:
    asked = {"tables": list(metadata.tables), "policies": list(POLICIES)}
    yield from connection.execute(text(_POSTGRESQL), asked).scalars()


def _foreign_in_sqlite(connection: Connection) -> Iterator[str]:
    known = dict(_known(connection))
    for kind, name, sql in connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master"):
        if (kind, name) not in known:
            if not _internal(kind, name, sql):
                yield f"{kind} {name}"
        elif _plain(sql or "") != known[kind, name]:
            # Under our name, but perhaps with a constraint or a computed column that says something else.
            yield f"another {kind} {name}"


def _internal(kind: str, name: str, sql: str | None) -> bool:
    """Tell whether SQLite keeps this object for itself: ANALYZE's tables, and the indexes behind UNIQUE and PRIMARY KEY."""
    # By exact names, since whoever may write the file can give a trigger a reserved one.
    if kind == "table":
        return name in _SQLITE_TABLES
    return kind == "index" and name.startswith("sqlite_autoindex_") and sql is None


def _known(connection: Connection) -> Iterator[tuple[tuple[str, str], str]]:
    for table in metadata.tables.values():
        yield ("table", table.name), _plain(str(CreateTable(table).compile(dialect=connection.dialect)))
        for index in table.indexes:
            yield ("index", str(index.name)), _plain(str(CreateIndex(index).compile(dialect=connection.dialect)))


def _plain(sql: str) -> str:
    """The statement without what only spells it: spaces and quotes of names."""
    return re.sub(r'[\s"]+', "", sql).lower()
