"""Carrying a journal over to another database, such as from SQLite to PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy
from sqlalchemy import Engine, func, select

from receiver.errors import ConflictError, PermanentError
from receiver.journal.engine import reading, writing
from receiver.journal.migrate import check_version, migrate
from receiver.journal.schema import deliveries, jobs, keys, pushes, revivals, transitions

_BATCH = 1_000


def copy_journal(source: Engine, target: Engine, *, now: float, progress: Callable[[str, int], None]) -> int:
    """Copy everything into an empty journal, in one transaction, and return the number of rows.

    Raises PermanentError when the target holds deliveries already, SettingsError for another version on either side.
    """
    check_version(source)
    migrate(target, now=now)
    try:
        return _copied(source, target, progress)
    except ConflictError as error:
        raise PermanentError(
            f"the source does not fit together, or the target was written to meanwhile: {error}"
        ) from error


def _copied(source: Engine, target: Engine, progress: Callable[[str, int], None]) -> int:
    rows_copied = 0
    with reading(source) as origin, writing(target) as destination:
        if destination.execute(select(func.count()).select_from(deliveries)).scalar():
            raise PermanentError("the target journal holds deliveries already; copy into an empty one")
        for table in (deliveries, pushes, keys, jobs, transitions, revivals):
            copied = 0
            # Streamed: the payloads of a large journal do not fit into memory.
            query = select(table).order_by(*table.primary_key).execution_options(yield_per=_BATCH)
            for batch in origin.execute(query).partitions():
                destination.execute(table.insert(), [dict(row._mapping) for row in batch])  # noqa: SLF001 - SQLAlchemy's public name
                copied += len(batch)
            if destination.dialect.name == "postgresql" and "id" in table.c:
                _continue_numbering(destination, table)
            progress(table.name, copied)
            rows_copied += copied
    return rows_copied


def _continue_numbering(connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> None:
    highest = select(func.coalesce(func.max(table.c.id), 0) + 1).scalar_subquery()
    connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), highest, False)))
