"""Who may open a journal that the receiver has made: both planes, which are two users of one group, and nobody else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver.journal.creation import create_for_group
from receiver.journal.schema import jobs
from tests.support.journals import count, delivery, opened, take
from tests.support.public import CHECKOUT

FILES = ("journal.db", "journal.db-shm", "journal.db-wal")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
OPEN = """
import os, sys, tempfile
from pathlib import Path
from tests.support.journals import delivery, opened, take
folder, seed, user = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with tempfile.TemporaryDirectory() as elsewhere, opened(Path(elsewhere)) as engine:
    take(engine, delivery())
if user:
    # Only now, since not everybody may read what Python has to import.
    os.setgroups([65532])
    os.setgid(65532)
    os.setuid(user)
print("ready", flush=True)
sys.stdin.readline()
with opened(folder) as engine:
    take(engine, delivery(seed))
    print("done", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=[0o077, 0o022, 0o000], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder whose group may write, as fsGroup makes a volume."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o2770)
    return folder


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@pytest.mark.usefixtures("umask")
def test_in_a_folder_of_a_group_the_group_may_write_the_journal_and_nobody_else_may_read_it(shared: Path) -> None:
    with opened(shared) as engine:
        take(engine, delivery())
        assert modes(shared) == dict.fromkeys(FILES, 0o660)


@pytest.mark.usefixtures("umask")
def test_in_a_folder_of_one_user_the_journal_is_not_opened_to_a_group(tmp_path: Path) -> None:
    for folder_mode in (0o700, 0o755, 0o2750):
        folder = tmp_path / f"{folder_mode:o}"
        folder.mkdir()
        folder.chmod(folder_mode)
        with opened(folder) as engine:
            take(engine, delivery())
            assert {mode & stat.S_IWGRP for mode in modes(folder).values()} == {0}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o644])
def test_a_file_that_is_there_keeps_the_mode_that_somebody_gave_it(shared: Path, mode: int) -> None:
    with opened(shared):
        pass
    (shared / "journal.db").chmod(mode)
    assert not create_for_group(shared / "journal.db")
    with opened(shared) as engine:
        assert count(engine, jobs) == 0
    assert modes(shared)["journal.db"] == mode


def test_an_empty_file_that_is_there_is_not_opened_either(shared: Path) -> None:
    (shared / "journal.db").touch(0o600)
    with opened(shared) as engine:
        take(engine, delivery())
        assert modes(shared) == dict.fromkeys(FILES, 0o600)


def test_a_link_is_not_followed_and_nothing_is_left_beside_it(shared: Path, tmp_path: Path) -> None:
    (shared / "journal.db").symlink_to(tmp_path / "elsewhere")
    assert not create_for_group(shared / "journal.db")
    assert not (tmp_path / "elsewhere").exists()
    assert [file.name for file in shared.iterdir()] == ["journal.db"]


def test_an_empty_file_with_its_mode_is_all_that_is_made(shared: Path) -> None:
    assert create_for_group(shared / "journal.db")
    assert modes(shared) == {"journal.db": 0o660}
    assert (shared / "journal.db").stat().st_size == 0
    assert not create_for_group(shared / "journal.db")


@AS_ROOT
@pytest.mark.parametrize(("mode", "opened_to_it"), [(0o770, False), (0o775, False), (0o1777, False), (0o777, True)])
def test_a_file_of_another_group_than_the_folder_is_not_opened_to_that_unless_all_may_write_there(
    tmp_path: Path, mode: int, opened_to_it: bool
) -> None:
    """Without the set-group-id bit a new file has its maker's group, which may be anybody."""
    folder = tmp_path / "shared"
    folder.mkdir()
    os.chown(folder, -1, 65_532)
    folder.chmod(mode)
    assert create_for_group(folder / "journal.db") is opened_to_it
    assert modes(folder) == ({"journal.db": 0o660} if opened_to_it else {})


def test_a_folder_that_cannot_be_written_is_left_to_sqlite_to_complain_of(tmp_path: Path) -> None:
    assert not create_for_group(tmp_path / "none" / "journal.db")


def process(folder: Path, seed: str, *, user: int = 0) -> subprocess.Popen[str]:
    """A process that creates or opens the journal in `folder` and writes into it; 0 is whoever runs the tests."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", OPEN, str(folder), seed, str(user)]
    # Another user cannot write where coverage is collected.
    environment = {name: value for name, value in os.environ.items() if not (user and name.startswith("COVERAGE_"))}
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=CHECKOUT, umask=0o077, env=environment
    )


@contextmanager
def all_at_once(processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    """Let all do their part at the same time; in the block all of them have the journal open."""
    try:
        for line in ("ready\n", "done\n"):
            for each in processes:
                assert each.stdout
                assert each.stdout.readline() == line, each.communicate()[1]
            for each in processes if line == "ready\n" else ():
                assert each.stdin
                each.stdin.write("\n")
                each.stdin.flush()
        yield
        for each in processes:
            _, problems = each.communicate("\n", timeout=20)
            assert (each.returncode, problems) == (0, "")
    finally:
        for each in processes:
            each.kill()
            each.communicate()


def test_of_several_processes_that_create_it_at_once_none_gets_files_of_its_own_mode(shared: Path) -> None:
    for round_ in range(3):
        for left in shared.iterdir():
            left.unlink()
        with all_at_once([process(shared, str(number)) for number in range(3)]):
            assert modes(shared) == dict.fromkeys(FILES, 0o660), round_


@AS_ROOT
@pytest.mark.parametrize(("group", "mode"), [(65_532, 0o2775), (0, 0o777)], ids=["fsGroup", "a node's folder"])
def test_two_users_of_the_group_share_the_journal_whoever_comes_first(group: int, mode: int) -> None:
    """As `serve` and `work` do in the cluster: other users, one group, on a volume as they come."""
    # Not in pytest's folder, which nobody but its owner can enter.
    folder = Path(tempfile.mkdtemp(prefix="striv-journal-"))
    try:
        os.chown(folder, 0, group)
        folder.chmod(mode)
        processes = [process(folder, "serve", user=65_531), process(folder, "work", user=65_532)]
        with all_at_once(processes):
            assert modes(folder) == dict.fromkeys(FILES, 0o660)
            assert {file.stat().st_gid for file in folder.iterdir()} == {65_532}
    finally:
        shutil.rmtree(folder)
