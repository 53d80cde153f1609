"""A journal on PostgreSQL: made, refused where it does not fit, and carried over from and to SQLite."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import sys
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from receiver.errors import PermanentError, SettingsError
from receiver.journal.changes import died
from receiver.journal.copying import copy_journal
from receiver.journal.engine import open_engine, reading
from receiver.journal.intake import ACCEPTED, DUPLICATE
from receiver.journal.jobs import Jobs
from receiver.journal.migrate import check_version, migrate
from receiver.journal.schema import deliveries, jobs, journal, keys, metadata, pushes, revivals, transitions
from tests.support.folders import write_folder
from tests.support.jobs import claim, start
from tests.support.journals import NOW, count, delivery, ignored, opened, rows, run_sql, take
from tests.support.postgres import OWNER, PostgreSQL

TABLES = (deliveries, pushes, keys, jobs, transitions, revivals)


def _migrate(url: str, results: Queue[bool | str], begin: Any) -> None:
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - runs in a process of its own

    engine = open_engine(make_url(url))
    begin.wait()
    try:
        results.put(migrate(engine, now=NOW))
    except Exception as error:  # noqa: BLE001 - the test shows it
        results.put(repr(error))
    engine.dispose()


def test_of_several_processes_that_migrate_at_the_same_time_one_does(postgresql: PostgreSQL) -> None:
    context = multiprocessing.get_context("spawn")
    with postgresql.database(migrated=False) as fresh:
        results: Queue[bool | str] = context.Queue()
        begin = context.Barrier(4, timeout=60)
        each = [
            context.Process(target=_migrate, args=(fresh.url_text(OWNER), results, begin), daemon=True)
            for _ in range(4)
        ]
        for process in each:
            process.start()
        done = [results.get(timeout=60) for _ in each]
        for process in each:
            process.join(10)
        assert sorted(map(str, done)) == ["False", "False", "False", "True"]
        with fresh.engine(OWNER) as engine:
            check_version(engine)
            assert count(engine, journal) == 1


def test_a_database_without_tables_or_of_another_version_is_refused(postgresql: PostgreSQL) -> None:
    with postgresql.database(migrated=False) as fresh, fresh.engine(OWNER) as engine:
        with pytest.raises(SettingsError, match="receiver journal migrate"):
            check_version(engine)
        migrate(engine, now=NOW)
        run_sql(engine, "UPDATE journal SET version = 99")
        with pytest.raises(SettingsError, match="version 99"):
            check_version(engine)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_refused_with_what_to_do(
    postgresql: PostgreSQL, tmp_path: Path, encoding: str
) -> None:
    said = rf"database test_\d+ has the encoding {encoding}, .*CREATE DATABASE .* TEMPLATE template0 ENCODING 'UTF8'"
    with postgresql.database(migrated=False, encoding=encoding) as fresh, fresh.engine(OWNER) as engine:
        for step in (check_version, lambda engine: migrate(engine, now=NOW)):
            for _ in range(2):
                with pytest.raises(SettingsError, match=said):
                    step(engine)
        file = write_folder(tmp_path, journal={"url": fresh.url_text(OWNER)})
        command = [sys.executable, "-m", "receiver", "--config", str(file), "journal", "migrate"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf"receiver: the journal's .*{encoding}.*\n", done.stderr)
    assert postgresql.password not in done.stderr


def test_the_columns_are_of_the_types_that_the_schema_names(work: Engine) -> None:
    query = text(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    )
    with reading(work) as connection:
        found = {(table, column): kind for table, column, kind in connection.execute(query)}
        answer = connection.execute(text("SHOW server_encoding")).scalar()
    assert answer == "UTF8"
    assert {found[table, column] for table, column in found if column.endswith("key")} == {"bytea"}
    assert {found[table, column] for table, column in found if column.endswith("_at")} == {"double precision"}
    assert found["pushes", "body"] == "bytea"
    assert found["jobs", "repository_id"] == "bigint"
    assert {table for table, _ in found} == set(metadata.tables)


def filled(engine: Engine) -> None:
    """Some of everything that a journal can hold."""
    take(engine, delivery("1"), delivery("2"), delivery("3", pushed_at=None), ignored())
    first, second, _ = claim(engine)
    start(engine, first)
    Jobs(engine).apply([died(second, reason="refused", message="no", at=NOW)])
    take(engine, delivery("2"))


@pytest.mark.parametrize("direction", ["to PostgreSQL", "to SQLite"])
def test_a_journal_is_carried_over_whole_and_goes_on_there(
    postgresql: PostgreSQL, tmp_path: Path, direction: str
) -> None:
    with (
        postgresql.database(migrated=False) as fresh,
        fresh.engine(OWNER) as there,
        opened(tmp_path, migrated=False) as here,
    ):
        source, target = (here, there) if direction == "to PostgreSQL" else (there, here)
        migrate(source, now=NOW)
        filled(source)
        seen: list[tuple[str, int]] = []
        copied = copy_journal(source, target, now=NOW, progress=lambda *each: seen.append(each))
        assert dict(seen) == {table.name: count(source, table) for table in TABLES}
        assert copied == sum(number for _, number in seen)
        for table in TABLES:
            assert rows(target, table) == rows(source, table)
        assert [receipt.result for receipt in take(target, delivery("1"), delivery("4"))] == [DUPLICATE, ACCEPTED]
        assert len(claim(target, now=NOW + 60)) == 3
        with pytest.raises(PermanentError, match="holds deliveries already"):
            copy_journal(source, target, now=NOW, progress=lambda *_: None)


def test_a_journal_whose_parts_do_not_fit_together_is_not_carried_over(postgresql: PostgreSQL, tmp_path: Path) -> None:
    with (
        postgresql.database(migrated=False) as fresh,
        fresh.engine(OWNER) as there,
        opened(tmp_path) as here,
    ):
        take(here, delivery())
        run_sql(here, "DELETE FROM pushes")
        with pytest.raises(PermanentError, match="does not fit together"):
            copy_journal(here, there, now=NOW, progress=lambda *_: None)
        assert count(there, deliveries) == 0
