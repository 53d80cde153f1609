"""Backups of a SQLite journal: whole, consistent, private, and never instead of something else."""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from receiver.errors import PermanentError
from receiver.journal.backup import back_up
from receiver.journal.engine import reading, sqlite_module
from receiver.journal.guard import check_objects
from receiver.journal.migrate import check_version
from receiver.journal.schema import deliveries, jobs, keys, metadata, pushes, transitions
from tests.support.journals import count, delivery, opened, rows, run_sql, take


@contextmanager
def restored(copy: Path) -> Iterator[Engine]:
    """A copy in the place of a journal."""
    (copy.parent / "restored").mkdir(exist_ok=True)
    copy.replace(copy.parent / "restored" / "journal.db")
    with opened(copy.parent / "restored", migrated=False) as engine:
        yield engine


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "copy.db"


def test_a_backup_is_one_private_file_with_all_that_was_committed(engine: Engine, target: Path) -> None:
    take(engine, delivery("1"), delivery("2"))
    size = back_up(engine, target)
    assert [file.name for file in target.parent.iterdir()] == ["copy.db"]
    assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_size) == (0o600, size)
    with restored(target) as copy:
        check_version(copy)
        check_objects(copy)
        for table in metadata.tables.values():
            assert rows(copy, table) == rows(engine, table)


def test_a_restored_backup_is_a_journal_like_any_other(engine: Engine, target: Path) -> None:
    take(engine, delivery("1"))
    back_up(engine, target)
    with restored(target) as copy:
        take(copy, delivery("1"), delivery("2"))
        assert count(copy, jobs) == 2
        with reading(copy) as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            # Incremental: pruned pages can still be given back.
            assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2


def test_no_umask_opens_a_backup_to_others(engine: Engine, target: Path) -> None:
    before = os.umask(0)
    try:
        back_up(engine, target)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_backups_while_deliveries_come_in_are_consistent_and_keep_nobody_waiting(tmp_path: Path, target: Path) -> None:
    stop = threading.Event()
    committed = 0
    failed: list[Exception] = []

    def deliver(engine: Engine) -> None:
        nonlocal committed
        try:
            while not stop.is_set():
                take(engine, *(delivery(f"{committed}-{number}") for number in range(5)))
                committed += 5
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failed.append(error)

    with opened(tmp_path) as writer, opened(tmp_path) as reader:
        thread = threading.Thread(target=deliver, args=(writer,))
        thread.start()
        try:
            sizes = []
            for _ in range(10):
                at_least = committed
                back_up(reader, target)
                with restored(target) as copy:
                    numbers = {count(copy, table) for table in (deliveries, pushes, jobs, transitions)}
                    numbers.add(len({row["push_key"] for row in rows(copy, keys)}))
                    (number,) = numbers
                assert number >= at_least
                assert number % 5 == 0
                sizes.append(number)
        finally:
            stop.set()
            thread.join()
    assert failed == []
    assert sizes[-1] > sizes[0]


@pytest.mark.parametrize("kind", ["file", "empty file", "link", "dangling link", "folder"])
def test_what_exists_is_never_replaced(engine: Engine, target: Path, kind: str) -> None:
    other = target.with_name("other")
    if kind == "folder":
        target.mkdir()
    elif "link" in kind:
        target.symlink_to(other)
        if kind == "link":
            other.write_bytes(b"precious")
    else:
        target.write_bytes(b"" if kind == "empty file" else b"precious")
    before = {file.name: file.read_bytes() for file in target.parent.iterdir() if file.is_file()}
    with pytest.raises(PermanentError, match=r"copy\.db exists already, and a backup replaces nothing"):
        back_up(engine, target)
    assert {file.name: file.read_bytes() for file in target.parent.iterdir() if file.is_file()} == before


def test_a_folder_that_does_not_exist_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"none/copy\.db cannot be written \(No such file or directory\)"):
        back_up(engine, tmp_path / "none" / "copy.db")


def test_a_full_disk_leaves_nothing_behind(engine: Engine, target: Path) -> None:
    take(engine, *(delivery(str(number)) for number in range(200)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(PermanentError, match="could not be copied"):
            back_up(engine, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(target.parent.iterdir()) == []
    back_up(engine, target)


def test_a_damaged_journal_makes_no_backup(tmp_path: Path, target: Path) -> None:
    with opened(tmp_path) as engine:
        take(engine, *(delivery(str(number)) for number in range(200)))
    file = tmp_path / "journal.db"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096 * 8] = os.urandom(4096 * 8)
    file.write_bytes(content)
    with opened(tmp_path, migrated=False) as engine, pytest.raises(PermanentError, match="the copy is damaged"):
        back_up(engine, target)
    assert list(target.parent.iterdir()) == []


def test_a_journal_that_somebody_tampered_with_is_copied_as_it_is(engine: Engine, target: Path) -> None:
    planted = "CREATE TRIGGER planted AFTER INSERT ON deliveries BEGIN DELETE FROM jobs; END"
    run_sql(engine, planted)
    back_up(engine, target)
    copy = sqlite_module().connect(target)
    assert copy.execute("SELECT sql FROM sqlite_master WHERE name = 'planted'").fetchall() == [(planted,)]
    copy.close()


def test_what_is_not_committed_is_not_in_a_backup(tmp_path: Path, target: Path) -> None:
    with opened(tmp_path) as engine, opened(tmp_path) as other:
        take(engine, delivery("1"))
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM jobs")
            back_up(other, target)
    with restored(target) as copy:
        assert count(copy, jobs) == 1


def test_an_interrupted_backup_leaves_nothing_behind(
    engine: Engine, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            back_up(engine, target)
    assert list(target.parent.iterdir()) == []


def test_the_journal_is_not_its_own_backup(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        take(engine, delivery("1"))
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            with pytest.raises(PermanentError, match="exists already"):
                back_up(engine, tmp_path / name)
        assert count(engine, jobs) == 1
