"""Many rows in one statement, in and out.

`executemany` is one call into SQLite for each row, and each call gives up the interpreter's lock and has to win it back; a
statement with many rows is one call, during which the event loop has the interpreter to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Connection, Row, Table, select
from sqlalchemy.sql.compiler import IdentifierPreparer

from receiver.journal.spelled import padded

_LARGEST = 64
_EXACT = 16
IN_LIST = 500  # values in one IN list
STATEMENTS = 256
"""How many prepared statements a SQLite connection should keep, so that those made here are among them."""


def insert_many(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, which all have the same columns."""
    if connection.dialect.name != "sqlite":
        # Inline: the public plane may not ask PostgreSQL for the ids, and nobody needs them.
        connection.execute(table.insert().inline(), rows)
        return
    columns = tuple(rows[0])
    quote = connection.dialect.identifier_preparer
    for start, size in _parts(len(rows)):
        values = tuple(row[column] for row in rows[start : start + size] for column in columns)
        connection.exec_driver_sql(_insert(quote, table.name, columns, size), values)


def select_in(
    connection: Connection, columns: Sequence[Column[Any]], column: Column[bytes], wanted: Sequence[bytes]
) -> Iterator[Row[Any]]:
    """Yield these columns of the rows in which `column` is one of the values."""
    quote = connection.dialect.identifier_preparer
    for start in range(0, len(wanted), IN_LIST):
        some = wanted[start : start + IN_LIST]
        if connection.dialect.name == "sqlite":
            # SQLAlchemy spells an IN list anew at each call.
            values = tuple(padded(some))
            names = tuple(each.name for each in columns)
            yield from connection.exec_driver_sql(
                _select(quote, column.table.name, names, column.name, len(values)), values
            )
        else:
            yield from connection.execute(select(*columns).where(column.in_(some)))


def _parts(rows: int) -> Iterator[tuple[int, int]]:
    """Cut so many rows into statements: powers of two and small rests, so that few statements serve all sizes."""
    start = 0
    while start < rows:
        left = rows - start
        size = left if left <= _EXACT else min(_LARGEST, 1 << left.bit_length() - 1)
        yield start, size
        start += size


@lru_cache(maxsize=128)
def _insert(quote: IdentifierPreparer, table: str, columns: tuple[str, ...], size: int) -> str:
    # Names are those of our own schema; values are always bound.
    names = ", ".join(quote.quote(column) for column in columns)
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {quote.quote(table)} ({names}) VALUES {', '.join([row] * size)}"  # noqa: S608 - as above


@lru_cache(maxsize=128)
def _select(quote: IdentifierPreparer, table: str, columns: tuple[str, ...], column: str, size: int) -> str:
    names = ", ".join(quote.quote(name) for name in columns)
    values = ", ".join("?" * size)
    return f"SELECT {names} FROM {quote.quote(table)} WHERE {quote.quote(column)} IN ({values})"  # noqa: S608 - as above
