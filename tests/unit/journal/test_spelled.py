"""Statements that are spelled once do what SQLAlchemy would do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    JSON,
    BindParameter,
    Boolean,
    Column,
    Engine,
    Executable,
    Integer,
    MetaData,
    Select,
    Table,
    bindparam,
    create_engine,
    func,
    insert,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from receiver.journal.engine import reading, writing
from receiver.journal.schema import DEAD, jobs, transitions
from receiver.journal.spelled import Spelled, listed, padded, places
from tests.support.journals import NOW, rows

NUMBER = Column("value", Integer)
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(),
    st.none(),
)


@given(value=VALUES)
def test_every_value_that_a_column_takes_comes_back_as_it_went(value: object) -> None:
    as_it_is: BindParameter[Any] = bindparam("value")
    statement = select(as_it_is.label("found"))
    with create_engine("sqlite://").connect() as connection:
        found = Spelled(statement).execute(connection, {"value": value}).one()
    assert (found.found, type(found.found)) == (value, type(value))


def test_a_statement_is_executed_with_the_values_of_each_call(engine: Engine) -> None:
    logged = Spelled(insert(transitions).values({c.name: bindparam(c.name) for c in transitions.c if c.name != "id"}))
    for number in range(3):
        with writing(engine) as connection:
            row = {
                "job_key": bytes([number]) * 32,
                "at": NOW,
                "from_state": "",
                "to_state": DEAD,
                "reason": str(number),
            }
            assert logged.execute(connection, row).rowcount == 1
    assert [(row["job_key"][0], row["reason"]) for row in rows(engine, transitions)] == [(0, "0"), (1, "1"), (2, "2")]


def test_a_value_that_is_missing_is_an_error_and_no_null(engine: Engine) -> None:
    with reading(engine) as connection, pytest.raises(KeyError, match="value"):
        Spelled(select(bindparam("value"))).execute(connection, {})


def test_what_is_spelled_anew_at_each_call_is_refused(engine: Engine) -> None:
    growing = select(jobs.c.id).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    with reading(engine) as connection, pytest.raises(NotImplementedError, match="anew each time"):
        Spelled(growing).execute(connection, {"ids": [1]})


@given(values=st.lists(st.integers(0, 300), min_size=1, max_size=130))
def test_a_padded_list_finds_what_the_list_itself_finds_with_one_statement_for_each_power_of_two(
    values: list[int],
) -> None:
    every = padded(values)
    numbers = union_all(*(select(literal(number).label("number")) for number in range(0, 300, 7))).subquery()
    statement = Spelled(select(numbers.c.number).where(numbers.c.number.in_(places(NUMBER, len(every)))))
    with create_engine("sqlite://").connect() as connection:
        found = statement.execute(connection, listed(NUMBER, every)).scalars().all()
    assert set(found) == {value for value in values if value % 7 == 0 and value < 300}
    assert len(every) in {2**power for power in range(9)}
    assert len(values) <= len(every) < 2 * len(values)


def test_an_empty_list_stays_empty() -> None:
    assert padded([]) == []


def test_a_value_that_sqlalchemy_would_make_is_refused_and_not_left_out() -> None:
    table = Table("t", MetaData(), Column("x", Integer, default=7))
    made: list[Executable] = [insert(table).values({}), select(bindparam("x", callable_=lambda: 7))]
    for statement in made:
        with create_engine("sqlite://").connect() as connection, pytest.raises(NotImplementedError, match="by name"):
            Spelled(statement).execute(connection, {})


@pytest.mark.parametrize(
    "statement",
    [
        select(bindparam("x", literal_execute=True)),
        select(bindparam("x", type_=JSON())),
        select(bindparam("y", 1), literal_column("1", Boolean()).label("x")),
        select(func.unnest(bindparam("x"), type_=ARRAY(Integer))),
    ],
    ids=["literal_execute", "a value of JSON", "a column of Boolean", "a column of ARRAY"],
)
def test_what_sqlalchemy_would_make_something_else_of_is_refused(statement: Select[Any]) -> None:
    with create_engine("sqlite://").connect() as connection, pytest.raises(NotImplementedError):
        Spelled(statement).execute(connection, {"x": 1})


def test_what_a_database_has_no_words_for_is_refused() -> None:
    table = Table("t", MetaData(), Column("x", Integer))
    with (
        create_engine("sqlite://").connect() as connection,
        pytest.raises(NotImplementedError, match="sqlite has no words"),
    ):
        Spelled(mysql.insert(table).values(x=1).on_duplicate_key_update(x=2)).execute(connection, {})


def test_what_takes_no_values_is_refused(engine: Engine) -> None:
    with reading(engine) as connection, pytest.raises(NotImplementedError, match="with values"):
        Spelled(CreateTable(jobs)).execute(connection, {})
