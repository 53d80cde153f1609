"""The database's version, who may create it, and what does not belong there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from receiver.errors import SettingsError, TamperedError
from receiver.journal.guard import check_objects
from receiver.journal.migrate import check_version, migrate
from receiver.journal.schema import VERSION, journal
from tests.support.journals import NOW, delivery, opened, rows, run_sql, take

MIGRATE = """
import sys
from sqlalchemy.engine import make_url
from receiver.journal.engine import open_engine
from receiver.journal.migrate import migrate
engine = open_engine(make_url(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(migrate(engine, now=1.0))
"""


def test_migrating_creates_once_and_then_only_looks(tmp_path: Path) -> None:
    with opened(tmp_path, migrated=False) as engine:
        assert [migrate(engine, now=NOW), migrate(engine, now=NOW + 1)] == [True, False]
        assert rows(engine, journal) == [{"version": VERSION, "migrated_at": NOW}]
        check_version(engine)
        check_objects(engine)


def test_of_several_processes_that_migrate_at_once_one_creates(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MIGRATE, f"sqlite:///{tmp_path}/journal.db"]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=Path.cwd()) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    done = [process.communicate(timeout=30) for process in processes]
    assert sorted(output for output, _ in done) == ["False\n"] * 3 + ["True\n"], [error for _, error in done]


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_a_journal_of_another_version_is_refused(engine: Engine, version: int) -> None:
    with engine.begin() as connection:
        connection.execute(update(journal).values(version=version))
    for look in (check_version, lambda engine: migrate(engine, now=NOW)):
        with pytest.raises(SettingsError, match=f"version {version}, this program of {VERSION}"):
            look(engine)


def test_a_journal_whose_version_is_gone_is_refused(engine: Engine) -> None:
    run_sql(engine, "DELETE FROM journal")
    with pytest.raises(SettingsError, match="version None"):
        check_version(engine)


def test_a_journal_without_tables_says_what_to_run(tmp_path: Path) -> None:
    with opened(tmp_path, migrated=False) as engine, pytest.raises(SettingsError, match="receiver journal migrate"):
        check_version(engine)


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("CREATE TRIGGER x AFTER INSERT ON deliveries BEGIN UPDATE jobs SET state = 'finished'; END", "trigger x"),
        ("CREATE TRIGGER jobs AFTER INSERT ON deliveries BEGIN UPDATE jobs SET state = 'dead'; END", "trigger jobs"),
        ("CREATE TRIGGER sqliteX AFTER INSERT ON keys BEGIN DELETE FROM jobs; END", "trigger sqliteX"),
        ("CREATE VIEW x AS SELECT * FROM jobs", "view x"),
        ("CREATE TABLE x (a)", "table x"),
        ("CREATE TABLE sqlitefake (a)", "table sqlitefake"),
        ("CREATE INDEX x ON jobs (state)", "index x"),
    ],
)
def test_a_planted_object_stops_the_private_plane(engine: Engine, planted: str, named: str) -> None:
    run_sql(engine, planted)
    with pytest.raises(TamperedError, match=rf"did not create: {named};"):
        check_objects(engine)


def test_a_trigger_with_a_name_that_sqlite_reserves_is_found_too(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        run_sql(engine, "CREATE TRIGGER xx AFTER INSERT ON keys BEGIN DELETE FROM jobs; END")
        run_sql(engine, "PRAGMA writable_schema=ON")
        renamed = "UPDATE sqlite_master SET name = '{0}', sql = replace(sql, 'xx', '{0}') WHERE type = 'trigger'"
        run_sql(engine, renamed.format("sqlite_autoindex_x_1"))
    with opened(tmp_path) as engine, pytest.raises(TamperedError, match="trigger sqlite_autoindex_x_1"):
        check_objects(engine)


def test_what_sqlite_keeps_for_itself_is_no_planted_object(engine: Engine) -> None:
    take(engine, delivery())
    run_sql(engine, "ANALYZE")
    check_objects(engine)
