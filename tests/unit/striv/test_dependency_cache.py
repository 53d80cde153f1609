"""The cache of dependencies: archives are whole or absent, and its troubles are nobody else's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import SCRIPTS, load_script

cache = load_script("dependency_cache")
SCRIPT = SCRIPTS / "dependency_cache.py"
LOCK = "package-lock.json"


class Run:
    """The folders that the tasks of a run see, and its two steps that use the cache."""

    def __init__(self, folder: Path, scopes: Path, *, own: str, protected: str = "branch-protected") -> None:
        self.workspace = folder / "workspace"
        self.folder = self.workspace / "source"
        self.state = folder / "state"
        self.scopes = scopes
        self.scope = scopes / own
        for path in (self.folder, self.state, self.scope, scopes / protected):
            path.mkdir(parents=True, exist_ok=True)
        for name, text in (("own", own), ("protected", protected), ("python-version", "Python 3.11.14\n")):
            (self.state / name).write_text(text)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "node").write_text("#!/bin/sh\necho v18.20.8\n")
        (programs / "node").chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        for kind in ("NODE_MODULES", "VENV"):
            for what in ("KEY", "RESTORED"):
                self.environment[f"{kind}_{what}"] = str(self.result(kind, what))

    def result(self, kind: str, what: str) -> Path:
        return self.state / f"{kind}_{what}"

    def saving(self, *more: str) -> list[str]:
        return [
            *(sys.executable, "-I", str(SCRIPT), "save", "--kind=node_modules"),
            *(f"--workspace={self.workspace}", f"--cache={self.scope}", *more),
        ]

    def save(self, *more: str) -> str:
        environment = {**self.environment, "KEY": self.result("NODE_MODULES", "KEY").read_text()}
        done = subprocess.run(self.saving(*more), capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    def restore(self) -> str:
        command = [
            *(sys.executable, "-I", str(SCRIPT), "restore", f"--workspace={self.workspace}", f"--cache={self.scopes}"),
            *(f"--scope-file={self.state / name}" for name in ("own", "protected")),
            f"--python-version-file={self.state / 'python-version'}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=self.environment)
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
        text = self.result("NODE_MODULES", "RESTORED").read_text()
        assert text in ("true", "false")
        return text == "true"


def fill(folder: Path, scopes: Path, *, own: str, lock: str = "lock", content: str = "content") -> None:
    """Let a run of a branch install and save."""
    run = Run(folder, scopes, own=own)
    (run.folder / LOCK).write_text(lock)
    run.restore()
    run.install(lock, content)
    run.save()


def restore(folder: Path, scopes: Path, *, own: str, lock: str = "lock") -> Run:
    """Let a new run of a branch take from the cache."""
    run = Run(folder, scopes, own=own)
    (run.folder / LOCK).write_text(lock)
    run.restore()
    return run


def test_a_second_run_of_a_branch_takes_what_the_first_installed(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")

    second = restore(tmp_path / "second", tmp_path / "scopes", own="branch-a")

    assert second.restored
    assert second.installed == "content"


def test_a_run_takes_from_the_protected_branch_what_its_own_branch_has_not(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-protected")

    second = restore(tmp_path / "second", tmp_path / "scopes", own="branch-b")

    assert second.installed == "content"
    assert not list(second.scope.iterdir())


def test_a_run_never_takes_from_another_branch(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-evil", content="evil")

    for branch in ("branch-protected", "branch-b"):
        run = restore(tmp_path / branch, tmp_path / "scopes", own=branch)
        assert not run.restored
        assert run.installed is None


@pytest.mark.parametrize("file", [LOCK, "package.json", "npm-shrinkwrap.json", ".npmrc"])
def test_a_change_of_any_key_file_is_a_miss(file: str, tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    run = Run(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    (run.folder / LOCK).write_text("lock")
    (run.folder / file).write_text("changed")

    run.restore()

    assert not run.restored


def test_an_empty_key_file_is_not_the_same_as_none(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    run = Run(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    (run.folder / LOCK).write_text("lock")
    (run.folder / ".npmrc").touch()

    run.restore()

    assert not run.restored


def test_what_the_commit_itself_needs_in_python_is_part_of_the_key() -> None:
    files = {Path(file).name for file in cache.KINDS["venv"].key_files}
    assert files >= {
        "requirements.txt",
        "requirements-dev.txt",
        "setup.py",
        "setup.cfg",
        "pyproject.toml",
        "constraints.txt",
    }


def test_the_week_is_part_of_the_key_of_requirements_without_versions() -> None:
    def key(kind: str, week: str) -> str:
        made: str = cache.compute_key(cache.KINDS[kind], version="1", week=week, files=[])
        return made

    assert key("venv", "2026-1") != key("venv", "2026-2")
    assert key("node_modules", "2026-1") == key("node_modules", "2026-2")


def test_another_version_of_the_tool_is_a_miss(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    run = Run(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    (run.folder / LOCK).write_text("lock")
    (tmp_path / "second" / "bin" / "node").write_text("#!/bin/sh\necho v20.0.0\n")

    run.restore()

    assert not run.restored


def test_both_kinds_are_restored_and_each_has_its_own_results(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")

    second = restore(tmp_path / "second", tmp_path / "scopes", own="branch-a")

    assert second.result("NODE_MODULES", "RESTORED").read_text() == "true"
    assert second.result("VENV", "RESTORED").read_text() == "false"
    keys = {second.result(kind, "KEY").read_text() for kind in ("NODE_MODULES", "VENV")}
    assert len(keys) == 2
    assert all(len(key) == 40 for key in keys)


def test_a_cache_that_cannot_be_asked_still_writes_results_and_nothing_is_stored_under_no_key(tmp_path: Path) -> None:
    run = Run(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    (tmp_path / "first" / "bin" / "node").write_text("#!/bin/sh\nexit 1\n")

    assert "cache: not used" in run.restore()

    assert not run.restored
    run.install("lock", "content")
    assert "has no key" in run.save()
    assert not list(run.scope.iterdir())


def test_an_archive_that_is_a_link_into_another_branchs_folder_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-evil", content="evil")
    (archive,) = (tmp_path / "scopes" / "branch-evil").iterdir()
    run = Run(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    (run.folder / LOCK).write_text("lock")
    (run.scope / archive.name).symlink_to(archive)

    run.restore()

    assert not run.restored


def test_what_the_commit_brought_is_replaced_even_if_it_is_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    run = Run(tmp_path / "second", tmp_path / "scopes", own="branch-a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run.folder / "node_modules").symlink_to(elsewhere)
    (run.folder / LOCK).write_text("lock")

    run.restore()

    assert run.installed == "content"
    assert not list(elsewhere.iterdir())


def test_a_broken_archive_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "first", tmp_path / "scopes", own="branch-protected")
    fill(tmp_path / "second", tmp_path / "scopes", own="branch-a", lock="other")
    whole = next((tmp_path / "scopes" / "branch-protected").glob("*.tar"))
    (tmp_path / "scopes" / "branch-a" / whole.name).write_bytes(whole.read_bytes()[:700])

    run = restore(tmp_path / "third", tmp_path / "scopes", own="branch-a")

    assert run.installed == "content"
    assert not list(run.folder.glob(".*partial"))


def test_a_cache_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    run = restore(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    run.install("lock", "content")
    run.scope.rmdir()

    assert "cache: not used" in run.save()


def test_an_archive_that_is_too_large_is_not_stored(tmp_path: Path) -> None:
    run = restore(tmp_path / "first", tmp_path / "scopes", own="branch-a")
    run.install("lock", "x" * 2**21)

    assert "cache: not used" in run.save("--limit-mebibytes=1")
    assert not list(run.scope.iterdir())


def test_only_the_newest_archives_of_a_branch_are_kept(tmp_path: Path) -> None:
    for number in range(4):
        fill(tmp_path / str(number), tmp_path / "scopes", own="branch-a", lock=f"lock {number}")

    assert len(list((tmp_path / "scopes" / "branch-a").iterdir())) == cache.KEEP_ARCHIVES
    assert restore(tmp_path / "last", tmp_path / "scopes", own="branch-a", lock="lock 3").restored


def test_five_writers_of_which_one_is_killed_leave_a_whole_archive(tmp_path: Path) -> None:
    content = "x" * 2**22
    runs = [restore(tmp_path / str(number), tmp_path / "scopes", own="branch-a") for number in range(5)]
    for run in runs:
        run.install("lock", content)
    slow_tar = tmp_path / "bin" / "tar"
    slow_tar.parent.mkdir()
    slow_tar.write_text('#!/bin/sh\nhead -c 2000 /dev/zero > "$2"\nexec sleep 600\n')
    slow_tar.chmod(0o755)
    usual = {**os.environ, "KEY": runs[0].result("NODE_MODULES", "KEY").read_text()}
    slow = {**usual, "PATH": f"{slow_tar.parent}:{os.environ['PATH']}"}
    victim = subprocess.Popen(runs[0].saving(), env=slow, start_new_session=True)
    while not list(runs[0].scope.glob("*.partial")):
        assert victim.poll() is None
    others = [subprocess.Popen(run.saving(), stdout=subprocess.DEVNULL, env=usual) for run in runs[1:]]
    os.killpg(victim.pid, signal.SIGKILL)
    for process in (victim, *others):
        process.wait(timeout=60)

    assert [process.returncode for process in others] == [0, 0, 0, 0]
    assert restore(tmp_path / "reader", tmp_path / "scopes", own="branch-a").installed == content
