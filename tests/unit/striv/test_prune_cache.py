"""What the nightly clean-up of the cache deletes and what it keeps."""

import os
from pathlib import Path

from tests.support.scripts import load_script

prune_cache = load_script("prune_cache")
DAY = 86400.0
NOW = 1_000 * DAY


def put(folder: Path, name: str, *, days: float, size: int = 10) -> Path:
    """Make a file that was last used so many days ago."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    """Set when a path was last changed."""
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))


def prune(folder: Path, *, limit: int = 10**6) -> set[str]:
    """Prune and return the names of what was deleted."""
    deleted = prune_cache.prune(folder=folder, most_seconds=14 * DAY, limit_bytes=limit, now=NOW)
    assert not any(path.exists() for path in deleted)
    return {path.name for path in deleted}


def test_what_was_used_lately_stays(tmp_path: Path) -> None:
    put(tmp_path, "branch-a/new.tar", days=13)
    put(tmp_path, "branch-a/old.tar", days=15)

    assert prune(tmp_path) == {"old.tar"}


def test_a_folder_that_somebody_got_into_the_cache_goes_at_once(tmp_path: Path) -> None:
    put(tmp_path, "branch-a/venv/deep/file", days=0)
    put(tmp_path, "branch-a/new.tar", days=0)
    (tmp_path / "branch-a/link").symlink_to(tmp_path / "branch-a/new.tar")

    assert prune(tmp_path) == {"venv"}
    assert (tmp_path / "branch-a/new.tar").exists()


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path) -> None:
    for days in range(5):
        put(tmp_path, f"branch-a/{days}.tar", days=days)

    assert prune(tmp_path, limit=25) == {"2.tar", "3.tar", "4.tar"}


def test_leftovers_of_killed_runs_and_runs_without_a_branch_last_a_day(tmp_path: Path) -> None:
    put(tmp_path, "branch-a/x.partial", days=2)
    put(tmp_path, "branch-a/y.partial", days=0.5)
    put(tmp_path, "run-1/x.tar", days=2)
    put(tmp_path, "run-2/x.tar", days=0.1)
    age(tmp_path / "run-1", 2)
    age(tmp_path / "run-2", 0.1)

    assert prune(tmp_path) == {"x.partial", "run-1"}


def test_an_empty_folder_goes_unless_a_run_may_have_just_mounted_it(tmp_path: Path) -> None:
    for name, days in (("branch-old", 2.0), ("branch-new", 0.1)):
        (tmp_path / name).mkdir()
        age(tmp_path / name, days)

    assert prune(tmp_path) == {"branch-old"}
