"""Opening the database: what is refused, and what each connection promises."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from receiver.errors import JournalError, SettingsError
from receiver.journal.engine import journal_url, open_engine, reading, safe_sqlite, sqlite_module, sqlite_path, writing
from receiver.journal.schema import jobs
from tests.support.journals import NOW, count, delivery, opened, run_sql, take

LOCAL = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 7, 0), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 44, 9), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_only_a_sqlite_without_the_wal_reset_bug_is_safe(version: tuple[int, ...], safe: bool) -> None:
    assert safe_sqlite(version) is safe


def test_the_sqlite_that_we_use_is_safe() -> None:
    assert safe_sqlite(sqlite_module().sqlite_version_info)


def test_an_unsafe_sqlite_is_refused_by_name_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("pysqlite3"), ModuleType("pysqlite3.dbapi2")
    package.dbapi2 = module  # type: ignore[attr-defined]  # a module made by hand
    module.sqlite_version, module.sqlite_version_info = "3.46.1", (3, 46, 1)  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, "pysqlite3", package)
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", module)
    with pytest.raises(SettingsError, match=r"SQLite 3\.46\.1 can lose commits"):
        open_engine(make_url(f"sqlite:///{tmp_path}/journal.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_journal_url_is_a_sqlite_file_or_postgresql_by_psycopg() -> None:
    assert sqlite_path(journal_url("sqlite:////var/lib/receiver/journal.db")) == Path("/var/lib/receiver/journal.db")
    assert sqlite_path(journal_url("postgresql+psycopg://receiver@db/receiver")) is None
    for wrong in (
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///journal.db",
        "mysql://db/x",
        "postgresql://db/x",
        "journal.db",
        "",
    ):
        with pytest.raises(SettingsError, match=r"journal\.url"):
            journal_url(wrong)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{tmp_path}/none, does not exist"):
        open_engine(make_url(f"sqlite:///{tmp_path}/none/journal.db"))


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "9p", "fuse.sshfs", "fuse.glusterfs"]
)
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(LOCAL + f"30 21 0:40 / {tmp_path} rw,relatime shared:7 - {kind} server:/export rw\n")
    with pytest.raises(SettingsError, match=rf"network file system \({kind}\)"):
        open_engine(make_url(f"sqlite:///{tmp_path}/journal.db"), mounts=mounts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "fuseblk", "zfs"])
def test_a_local_file_system_below_a_network_mount_is_taken(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    folder = tmp_path / "with space"
    folder.mkdir()
    written = str(folder).replace(" ", "\\040")
    mounts.write_text(
        f"20 1 0:40 / / rw - nfs server:/ rw\n30 20 8:1 / {written} rw - {kind} /dev/sda1 rw\n"
        f"31 20 0:41 / {written}-beside rw - nfs server:/beside rw\n"
    )
    open_engine(make_url(f"sqlite:///{folder}/journal.db"), mounts=mounts).dispose()


def test_of_two_mounts_on_one_folder_the_later_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    line = f"30 21 0:40 / {tmp_path} rw - {{}} source rw\n"
    mounts.write_text(line.format("ext4") + line.format("nfs4"))
    with pytest.raises(SettingsError, match="nfs4"):
        open_engine(make_url(f"sqlite:///{tmp_path}/journal.db"), mounts=mounts)


def test_a_folder_is_judged_by_where_it_really_lies(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(LOCAL + f"30 21 0:40 / {tmp_path}/far rw - nfs source rw\n")
    with pytest.raises(SettingsError, match="network"):
        open_engine(make_url(f"sqlite:///{tmp_path}/near/journal.db"), mounts=mounts)


def test_without_a_list_of_mounts_the_journal_is_taken(tmp_path: Path) -> None:
    open_engine(make_url(f"sqlite:///{tmp_path}/journal.db"), mounts=tmp_path / "none").dispose()


def pragma(engine: Engine, name: str) -> Any:
    with reading(engine) as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_each_connection_has_wal_and_syncs_as_it_was_asked_to(tmp_path: Path, durable: bool, synchronous: int) -> None:
    # Two at once, so that the second is a connection of its own.
    with opened(tmp_path, durable=durable) as engine, reading(engine) as one, reading(engine) as two:
        for connection in (one, two):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous
            assert connection.exec_driver_sql("PRAGMA trusted_schema").scalar() == 0


def test_an_engine_syncs_unless_it_is_asked_not_to(tmp_path: Path) -> None:
    engine = open_engine(make_url(f"sqlite:///{tmp_path}/journal.db"))
    assert pragma(engine, "synchronous") == 2
    engine.dispose()


def test_readers_and_a_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        with reading(one) as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 0
            take(two, delivery())
            assert reader.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 0
        with writing(two):
            assert count(one, jobs) == 1


def impatient(engine: Engine) -> None:
    """Let connections from now on wait for a lock for 20 ms only."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout=20")

    engine.dispose()


def test_a_new_connection_waits_for_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.journal.engine.BUSY_TIMEOUT_SECONDS", 0.02)
    with opened(tmp_path) as holder, opened(tmp_path, migrated=False) as other, writing(holder):
        assert count(other, jobs) == 0


def test_a_locked_journal_is_a_journal_error_after_the_busy_timeout(tmp_path: Path) -> None:
    with opened(tmp_path) as holder, opened(tmp_path) as other:
        impatient(other)
        with writing(holder), pytest.raises(JournalError, match="locked"):
            take(other, delivery())
        take(other, delivery())
        assert count(other, jobs) == 1


def test_a_failing_transaction_leaves_nothing_and_the_connection_usable(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql("DELETE FROM journal")
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert pragma(engine, "integrity_check") == "ok"
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM journal").scalar() == 1


def test_a_file_that_is_no_database_is_a_journal_error(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"this is no database" * 100)
    with opened(tmp_path, migrated=False) as engine, pytest.raises(JournalError, match="not a database"):
        take(engine, delivery(now=NOW))


def test_a_journal_without_tables_is_a_journal_error(engine: Engine) -> None:
    run_sql(engine, "DROP TABLE deliveries")
    with pytest.raises(JournalError, match="no such table"):
        take(engine, delivery())
