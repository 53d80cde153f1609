# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Delete what has grown old in the cache of dependencies; the next run that needs it installs it anew.

Archives stored longer ago than a while go, then the oldest until the rest fits, leftovers of killed runs, and folders that
have been empty for a day. Folders named run-… belong to runs without a branch and last a day.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

DAY_SECONDS = 86400


def is_old(path: Path, now: float, seconds: float) -> bool:
    """Tell whether a path was last changed longer ago than that."""
    return now - path.lstat().st_mtime > seconds


def is_folder(path: Path) -> bool:
    """Tell whether this is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def choose(*, folder: Path, most_seconds: float, limit_bytes: int, now: float) -> list[Path]:
    """Return the files to delete: old, abandoned by a killed run, or the oldest of too many."""
    chosen = []
    total = 0
    kept = []
    for file in folder.glob("*/*"):
        if is_folder(file):
            continue
        if is_old(file, now, DAY_SECONDS if file.suffix == ".partial" else most_seconds):
            chosen.append(file)
        else:
            kept.append(file)
            total += file.lstat().st_size
    for file in sorted(kept, key=lambda path: path.lstat().st_mtime):
        if total <= limit_bytes:
            break
        chosen.append(file)
        total -= file.lstat().st_size
    return chosen


def prune(*, folder: Path, most_seconds: float, limit_bytes: int, now: float) -> list[Path]:
    """Delete what is too old or too much below FOLDER and return it."""
    runs = [scope for scope in folder.glob("run-*") if is_old(scope, now, DAY_SECONDS)]
    for scope in runs:
        shutil.rmtree(scope, ignore_errors=True)
    # A run that has just begun may hold an empty folder as its mount: only old ones go. Deleting files makes a folder new.
    empty = [scope for scope in folder.glob("branch-*") if is_old(scope, now, DAY_SECONDS) and not any(scope.iterdir())]
    for scope in empty:
        scope.rmdir()
    # The cache holds files alone. A folder is what somebody got past it, and would otherwise stay, uncounted.
    planted = [path for path in folder.glob("*/*") if is_folder(path)]
    for path in planted:
        shutil.rmtree(path, ignore_errors=True)
    files = choose(folder=folder, most_seconds=most_seconds, limit_bytes=limit_bytes, now=now)
    for file in files:
        file.unlink(missing_ok=True)
    return [*runs, *empty, *planted, *files]


def main(arguments: list[str]) -> None:
    """Prune by the command line and print what was deleted."""
    parser = argparse.ArgumentParser(description="Delete what has grown old in the cache.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--most-days", type=float, required=True)
    parser.add_argument("--limit-mebibytes", type=int, required=True)
    given = parser.parse_args(arguments)
    deleted = prune(
        folder=given.folder,
        most_seconds=given.most_days * DAY_SECONDS,
        limit_bytes=given.limit_mebibytes * 2**20,
        now=time.time(),
    )
    for path in deleted:
        print(f"deleted {path}")
    print(f"{len(deleted)} deleted")


if __name__ == "__main__":
    main(sys.argv[1:])
