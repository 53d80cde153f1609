"""Opening the SQLite file while others open it, write it, or keep it from being written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from receiver.errors import JournalError
from receiver.journal.engine import reading, sqlite_module, writing
from receiver.journal.opening import opened
from receiver.journal.schema import journal
from tests.support.journals import opened as opened_engine

SQL = sqlite_module()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database in WAL mode with one table."""
    made = SQL.connect(tmp_path / "journal.db", isolation_level=None)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("CREATE TABLE found (value)")
    made.close()
    return tmp_path / "journal.db"


class Opener:
    """Opens a file, the first times in another way; remembers what it opened."""

    def __init__(self, file: Path, *modes: str, timeout: float = 5) -> None:
        self._file = file
        self._timeout = timeout
        self._modes = itertools.chain(modes, itertools.repeat("rw"))
        self.made: list[Any] = []

    def __call__(self) -> Any:
        mode = next(self._modes)
        blocked = self._file.with_name(self._file.name + "-wal")
        if mode == "refused":
            # To SQLite the same as a file that belongs to somebody else, and to root as well.
            blocked.mkdir(exist_ok=True)
            mode = "rw"
        elif blocked.is_dir():
            blocked.rmdir()
        self.made.append(
            SQL.connect(f"file:{self._file}?mode={mode}", uri=True, isolation_level=None, timeout=self._timeout)
        )
        return self.made[-1]


def open_by(connect: Callable[[], Any]) -> Any:
    return opened(connect, durable=True, busy_timeout_seconds=5)


def is_closed(connection: Any) -> bool:
    try:
        connection.execute("SELECT 1")
    except SQL.ProgrammingError:
        return True
    return False


def test_a_connection_that_cannot_write_yet_is_given_up_for_one_that_can(file: Path) -> None:
    opener = Opener(file, "ro", "ro")
    open_by(opener).execute("INSERT INTO found VALUES (1)")
    assert [is_closed(made) for made in opener.made] == [True, True, False]


def test_an_opening_that_is_refused_meanwhile_is_tried_again(file: Path) -> None:
    opener = Opener(file, "refused", "refused", "refused")
    open_by(opener).execute("INSERT INTO found VALUES (1)")
    assert [is_closed(made) for made in opener.made] == [True, True, True, False]


def test_an_opening_that_is_refused_for_good_is_told(file: Path) -> None:
    opener = Opener(file, *["refused"] * 100)
    with pytest.raises(SQL.OperationalError, match="unable to open"):
        open_by(opener)
    assert all(is_closed(made) for made in opener.made)


def test_a_file_that_never_takes_writes_can_be_read_all_the_same(file: Path) -> None:
    opener = Opener(file, *["ro"] * 100)
    assert open_by(opener).execute("SELECT * FROM found").fetchall() == []
    assert len(opener.made) < 100


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Any]:
    """A database that is not in WAL mode yet; somebody writes it just now."""
    other = SQL.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("CREATE TABLE found (value)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO found VALUES (1)")
    yield other
    other.close()


def test_a_new_file_that_another_prepares_in_the_same_moment_is_tried_again(new: Any, tmp_path: Path) -> None:
    opener = Opener(tmp_path / "journal.db")

    def until_it_is_prepared() -> Any:
        if len(opener.made) == 3:
            new.execute("COMMIT")
        return opener()

    assert open_by(until_it_is_prepared).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [is_closed(made) for made in opener.made] == [True, True, True, False]


def test_a_new_file_that_another_never_lets_go_is_told_of(new: Any, tmp_path: Path) -> None:
    opener = Opener(tmp_path / "journal.db")
    with pytest.raises(SQL.OperationalError, match="locked"):
        open_by(opener)
    assert 1 < len(opener.made) < 100
    assert all(is_closed(made) for made in opener.made)
    new.execute("COMMIT")


def test_a_lock_that_took_the_busy_timeout_is_not_waited_for_again(tmp_path: Path) -> None:
    other = SQL.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    opener = Opener(tmp_path / "journal.db", timeout=0.05)
    with pytest.raises(SQL.OperationalError, match="locked"):
        opened(opener, durable=True, busy_timeout_seconds=0.05)
    assert len(opener.made) == 1
    # Nor is the time-out given to each try anew.
    opener = Opener(tmp_path / "journal.db", timeout=0.02)
    with pytest.raises(SQL.OperationalError, match="locked"):
        opened(opener, durable=True, busy_timeout_seconds=0.1)
    assert len(opener.made) <= 6
    other.close()


def test_nobody_waits_for_a_writer_to_open_the_file(file: Path) -> None:
    other = open_by(Opener(file))
    other.execute("BEGIN IMMEDIATE")
    opener = Opener(file)
    connection = open_by(opener)
    assert len(opener.made) == 1
    # Whoever writes later does wait.
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (5_000,)
    other.execute("ROLLBACK")
    connection.execute("INSERT INTO found VALUES (1)")


def test_what_is_wrong_with_the_file_for_good_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database" * 1_000)
    opener = Opener(tmp_path / "journal.db")
    with pytest.raises(SQL.DatabaseError, match="not a database"):
        open_by(opener)
    assert [is_closed(made) for made in opener.made] == [True]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Any]:
    with opened_engine(tmp_path) as engine:
        yield engine


def test_a_connection_that_turned_out_read_only_is_replaced_after_one_failure(shared: Any) -> None:
    with reading(shared) as connection:
        # To SQLite the same as a disk that took no writes when the file was opened.
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(JournalError, match="readonly"), writing(shared) as connection:
        connection.execute(journal.delete())
    with writing(shared) as connection:
        connection.execute(journal.update().values(migrated_at=7.0))
    with reading(shared) as connection:
        assert connection.execute(select(journal.c.migrated_at)).scalar() == 7.0
