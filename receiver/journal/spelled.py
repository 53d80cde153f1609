"""Statements that are spelled once: for those on the way of a push, and those that a burst of pushes repeats.

SQLAlchemy keeps what it has compiled. To look that up, to bind and to read the answer still costs it several times what the
statement costs SQLite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    CursorResult,
    Dialect,
    Executable,
    Float,
    Integer,
    LargeBinary,
    String,
    bindparam,
)
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import NullType

_PLAIN = (Integer, Float, String, LargeBinary, NullType)


class Spelled:
    """A statement whose values are numbers, texts and bytes, which every driver takes and returns as they are."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._texts: dict[str, _Text] = {}

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Execute it with its named values.

        Raises KeyError when one is missing, NotImplementedError for a statement that cannot be spelled once: of these two
        nobody should think that the journal is away or forged.
        """
        text = self._texts.get(connection.dialect.name)
        if text is None:
            text = self._texts[connection.dialect.name] = _Text(self._statement, connection.dialect)
        return connection.exec_driver_sql(text.sql, text.bound(values))


def places(column: Column[Any], size: int) -> list[BindParameter[Any]]:
    """Return parameters for a list of so many of a column's values, which `listed` fills; one that grew would be spelled anew."""
    return [bindparam(f"{column.name}_{number}", type_=column.type) for number in range(size)]


def listed(column: Column[Any], values: Sequence[Any]) -> dict[str, Any]:
    """Return the values for `places` of that size."""
    return {f"{column.name}_{number}": value for number, value in enumerate(values)}


def padded(values: Sequence[Any]) -> list[Any]:
    """Repeat the last value up to a power of two, so that few statements serve lists of all sizes; an empty one stays empty."""
    return [*values, *([values[-1]] * ((1 << (len(values) - 1).bit_length()) - len(values)))] if values else []


class _Text:
    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        try:
            compiled = statement.compile(dialect=dialect) if isinstance(statement, ClauseElement) else None
        except CompileError as error:
            raise NotImplementedError(f"{dialect.name} has no words for this statement: {error}") from error
        if not isinstance(compiled, SQLCompiler):
            raise NotImplementedError("only SQL that is executed with values can be spelled once")
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise NotImplementedError(
                "a list that grows with its values (an expanding parameter) is spelled anew each time"
            )
        binds = compiled.bind_names
        if compiled.insert_prefetch or compiled.update_prefetch or any(bind.callable for bind in binds):
            raise NotImplementedError("a value that SQLAlchemy makes at each call has to be given by name")
        if compiled.escaped_bind_names:
            raise NotImplementedError("a value's name has to be plain")
        self.sql = str(compiled)
        columns = getattr(statement, "selected_columns", ())
        if odd := [each for each in (*binds, *columns) if not isinstance(each.type, _PLAIN)]:
            raise NotImplementedError(f"SQLAlchemy makes something else of the values of {odd[0]!r}")
        self._names = tuple(binds.values())
        self._own = {name: bind.value for bind, name in binds.items() if not bind.required}
        self._order = compiled.positiontup

    def bound(self, values: Mapping[str, Any]) -> Any:
        every = {**self._own, **values}
        if self._order is None:
            return {name: every[name] for name in self._names}
        return tuple(every[name] for name in self._order)
