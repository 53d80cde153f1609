"""Delete what runs no longer use from the cache of dependencies.

Goes by the time of last use: archives unused for a while, then the oldest until the rest fits, then folders that are
empty and leftovers of killed runs. Folders named run-… belong to runs without a branch and last a day.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

DAY_SECONDS = 86400


def prune(*, folder: Path, unused_seconds: float, limit_bytes: int, now: float) -> list[Path]:
    """Delete what is too old or too much below FOLDER and return it."""
    deleted: list[Path] = []

    def delete(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        deleted.append(path)

    for scope in sorted(folder.glob("run-*")):
        if now - scope.stat().st_mtime > DAY_SECONDS:
            delete(scope)
    kept: list[tuple[float, int, Path]] = []
    for file in sorted(folder.glob("*/*")):
        status = file.lstat()
        if now - status.st_mtime > (DAY_SECONDS if file.suffix == ".partial" else unused_seconds):
            delete(file)
        else:
            kept.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in kept)
    for _, size, file in sorted(kept):
        if total <= limit_bytes:
            break
        delete(file)
        total -= size
    for scope in sorted(folder.glob("branch-*")):
        # A run that has just begun may hold an empty folder as its mount: leave new ones alone.
        if now - scope.stat().st_mtime > DAY_SECONDS and not any(scope.iterdir()):
            delete(scope)
    return deleted


def main(arguments: list[str]) -> None:
    """Prune by the command line and print what was deleted."""
    parser = argparse.ArgumentParser(description="Delete what runs no longer use from the cache.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--unused-days", type=float, required=True)
    parser.add_argument("--limit-mebibytes", type=int, required=True)
    given = parser.parse_args(arguments)
    deleted = prune(
        folder=given.folder,
        unused_seconds=given.unused_days * DAY_SECONDS,
        limit_bytes=given.limit_mebibytes * 2**20,
        now=time.time(),
    )
    for path in deleted:
        print(f"deleted {path}")
    print(f"{len(deleted)} deleted")


if __name__ == "__main__":
    main(sys.argv[1:])
