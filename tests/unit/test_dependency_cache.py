"""The cache of dependencies: archives are whole or absent, and its troubles are nobody else's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.support.scripts import SCRIPTS, load_script

cache = load_script("dependency_cache")
SCRIPT = SCRIPTS / "dependency_cache.py"
LOCK = "package-lock.json"


class Pod:
    """The folders that a pod of an install task sees."""

    def __init__(self, folder: Path, scopes: Path, *, own: str, protected: str = "branch-protected") -> None:
        self.folder = folder / "source"
        self.state = folder / "state"
        self.cache = folder / "cache"
        self.scope = scopes / own
        for path in (self.folder, self.state, self.cache, self.scope, scopes / protected):
            path.mkdir(parents=True, exist_ok=True)
        (self.cache / "own").symlink_to(self.scope)
        (self.cache / "protected").symlink_to(scopes / protected)

    def command(self, command: str, *more: str) -> list[str]:
        return [
            sys.executable,
            "-I",
            str(SCRIPT),
            command,
            "--name=node_modules",
            f"--folder={self.folder}",
            f"--cache={self.cache}",
            f"--state={self.state}",
            *more,
        ]

    def run(self, command: str, *more: str) -> str:
        if command == "restore":
            more = ("--version-of=python3", f"--key-file={LOCK}", "--key-file=.npmrc", *more)
        done = subprocess.run(self.command(command, *more), capture_output=True, text=True, check=True)
        return done.stdout

    def install(self, lock: str, content: str) -> None:
        """Do what npm does."""
        (self.folder / LOCK).write_text(lock)
        (self.folder / "node_modules" / "package").mkdir(parents=True, exist_ok=True)
        (self.folder / "node_modules" / "package" / "index.js").write_text(content)

    @property
    def installed(self) -> str | None:
        file = self.folder / "node_modules" / "package" / "index.js"
        return file.read_text() if file.exists() else None

    @property
    def restored(self) -> bool:
        return (self.state / "restored").exists()


def fill(folder: Path, scopes: Path, *, own: str, lock: str = "lock", content: str = "content") -> None:
    """Let a run of a branch install and save."""
    pod = Pod(folder, scopes, own=own)
    (pod.folder / LOCK).write_text(lock)
    pod.run("restore")
    pod.install(lock, content)
    pod.run("save")


def restore(folder: Path, scopes: Path, *, own: str, lock: str = "lock") -> Pod:
    """Let a new run of a branch take from the cache."""
    pod = Pod(folder, scopes, own=own)
    (pod.folder / LOCK).write_text(lock)
    pod.run("restore")
    return pod


def test_a_second_run_of_a_branch_takes_what_the_first_installed(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")

    second = restore(tmp_path / "second", tmp_path / "scopes", own="branch-a")

    assert second.restored
    assert second.installed == "content"
    assert "is not stored again" in second.run("save")


def test_a_run_takes_from_the_protected_branch_what_its_own_branch_has_not(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-protected")

    second = restore(tmp_path / "second", tmp_path / "scopes", own="branch-b")

    assert second.installed == "content"
    second.run("save")
    assert not list(second.scope.iterdir())


def test_a_run_never_takes_from_another_branch(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-evil", content="evil")

    for branch in ("branch-protected", "branch-b"):
        pod = restore(tmp_path / branch, tmp_path / "scopes", own=branch)
        assert not pod.restored
        assert pod.installed is None


@pytest.mark.parametrize("file", [LOCK, ".npmrc"])
def test_a_change_of_any_key_file_is_a_miss(file: str, tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    pod = Pod(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    (pod.folder / LOCK).write_text("lock")
    (pod.folder / file).write_text("changed")

    pod.run("restore")

    assert not pod.restored


def test_an_empty_key_file_is_not_the_same_as_none(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    pod = Pod(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    (pod.folder / LOCK).write_text("lock")
    (pod.folder / ".npmrc").touch()

    pod.run("restore")

    assert not pod.restored


def test_the_week_is_part_of_the_key_where_asked() -> None:
    def key(week: str) -> str:
        made: str = cache.compute_key(name="venv", version="Python 3", week=week, files=[])
        return made

    assert key("2026-1") != key("2026-2")
    assert key("") == key("")


def test_what_the_commit_brought_is_replaced_even_if_it_is_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    pod = Pod(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (pod.folder / "node_modules").symlink_to(elsewhere)
    (pod.folder / LOCK).write_text("lock")

    pod.run("restore")

    assert pod.installed == "content"
    assert not list(elsewhere.iterdir())


def test_a_broken_archive_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-protected")
    fill(tmp_path / "second", tmp_path / "scopes", own="branch-a", lock="other")
    whole = next((tmp_path / "scopes" / "branch-protected").glob("*.tar"))
    (tmp_path / "scopes" / "branch-a" / whole.name).write_bytes(whole.read_bytes()[:700])

    pod = restore(tmp_path / "third", tmp_path / "scopes", own="branch-a")

    assert pod.installed == "content"
    assert not list(pod.folder.glob(".*partial"))


def test_a_cache_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    pod = restore(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    pod.install("lock", "content")
    pod.scope.rmdir()

    assert "cache: not used" in pod.run("save")


def test_an_archive_that_is_too_large_is_not_stored(tmp_path: Path) -> None:
    pod = restore(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    pod.install("lock", "x" * 2**21)

    assert "cache: not used" in pod.run("save", "--limit-mebibytes=1")
    assert not list(pod.scope.iterdir())


def test_only_the_newest_archives_of_a_branch_are_kept(tmp_path: Path) -> None:
    for number in range(4):
        fill(tmp_path / str(number), tmp_path / "scopes", own="branch-a", lock=f"lock {number}")

    assert len(list((tmp_path / "scopes" / "branch-a").iterdir())) == cache.KEEP_ARCHIVES
    assert restore(tmp_path / "last", tmp_path / "scopes", own="branch-a", lock="lock 3").restored


def test_five_writers_of_which_one_is_killed_leave_a_whole_archive(tmp_path: Path) -> None:
    content = "x" * 2**22
    pods = [restore(tmp_path / str(number), tmp_path / "scopes", own="branch-a") for number in range(5)]
    for pod in pods:
        pod.install("lock", content)
    slow_tar = tmp_path / "bin" / "tar"
    slow_tar.parent.mkdir()
    slow_tar.write_text('#!/bin/sh\nhead -c 2000 /dev/zero > "$2"\nexec sleep 600\n')
    slow_tar.chmod(0o755)
    slow = {**os.environ, "PATH": f"{slow_tar.parent}:{os.environ['PATH']}"}
    victim = subprocess.Popen(pods[0].command("save"), env=slow, start_new_session=True)
    while not list(pods[0].scope.glob("*.partial")):
        assert victim.poll() is None
    others = [subprocess.Popen(pod.command("save"), stdout=subprocess.DEVNULL) for pod in pods[1:]]
    os.killpg(victim.pid, signal.SIGKILL)
    for process in (victim, *others):
        process.wait(timeout=60)

    assert [process.returncode for process in others] == [0, 0, 0, 0]
    assert restore(tmp_path / "reader", tmp_path / "scopes", own="branch-a").installed == content
