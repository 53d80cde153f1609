"""Many rows in one statement.

`executemany` is one call into SQLite for each row, and each call gives up the interpreter's lock and has to win it back; a
statement with many rows is one call, during which the event loop has the interpreter to itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.sql.compiler import IdentifierPreparer

_LARGEST = 64


def insert_many(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, which all have the same columns."""
    if connection.dialect.name != "sqlite":
        # Inline: the public plane may not ask PostgreSQL for the ids, and nobody needs them.
        connection.execute(table.insert().inline(), rows)
        return
    columns = tuple(rows[0])
    start = 0
    while start < len(rows):
        # Powers of two, so that few statements serve all sizes and SQLite keeps them prepared.
        size = min(_LARGEST, 1 << (len(rows) - start).bit_length() - 1)
        values = tuple(row[column] for row in rows[start : start + size] for column in columns)
        connection.exec_driver_sql(
            _statement(connection.dialect.identifier_preparer, table.name, columns, size), values
        )
        start += size


@lru_cache(maxsize=128)
def _statement(quote: IdentifierPreparer, table: str, columns: tuple[str, ...], size: int) -> str:
    # Names are those of our own schema; values are always bound.
    names = ", ".join(quote.quote(column) for column in columns)
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {quote.quote(table)} ({names}) VALUES {', '.join([row] * size)}"  # noqa: S608 - as above
