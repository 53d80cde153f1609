# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Keep installed dependencies between runs, as archives that are complete or absent.

`restore` unpacks the archive that fits the key files into FOLDER/NAME and marks that it did; `save` stores FOLDER/NAME
after an installation. An archive is written under a temporary name and renamed: readers see whole archives only, any
number of runs may write at once, and one that is killed leaves a temporary file that the next one removes.

The cache only saves time: whatever is wrong with it is printed, and the task goes on without it.
"""

import argparse
import datetime as dt
import hashlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

FORMAT = "1"
KEEP_ARCHIVES = 2
ABANDONED_SECONDS = 3600
END_BYTES = 1024


def compute_key(*, name: str, version: str, week: str, files: list[Path]) -> str:
    """Hash everything that the installed files depend on: the tool, the machine, the week and the key files."""
    digest = hashlib.sha256()
    for part in (FORMAT, name, version, platform.machine(), week):
        digest.update(part.encode() + b"\0")
    for file in files:
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"{file.name} {len(content)} {file.is_file()}\0".encode() + content)
    return digest.hexdigest()[:40]


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Replace FOLDER/NAME by the archive's content; a failure leaves nothing half-done under that name."""
    partial = folder / f".{name}.partial"
    remove(partial)
    partial.mkdir()
    try:
        subprocess.run(["tar", "-xf", str(archive), "-C", str(partial)], check=True)
        remove(folder / name)
        (partial / name).rename(folder / name)
    finally:
        remove(partial)


def has_end(archive: Path) -> bool:
    """Tell whether the two blocks of zeros are there that end an archive: tar itself does not miss them."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < END_BYTES:
            return False
        file.seek(-END_BYTES, os.SEEK_END)
        return not any(file.read())


def remove(path: Path) -> None:
    """Delete a file, link or folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def restore(*, folder: Path, name: str, key: str, scopes: list[Path]) -> Path | None:
    """Unpack the first archive of that key; return it, or None when no scope has a usable one."""
    for scope in scopes:
        archive = scope / f"{name}-{key}.tar"
        if not archive.is_file():
            continue
        if not has_end(archive):
            print(f"cache: {archive} has no end", flush=True)
            continue
        try:
            unpack(archive, folder, name)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"cache: {archive} is not usable: {error}", flush=True)
            continue
        if os.access(archive, os.W_OK):
            os.utime(archive)  # prune_cache.py goes by the time of the last use
        return archive
    return None


def save(*, folder: Path, name: str, key: str, scope: Path, limit_bytes: int) -> None:
    """Store FOLDER/NAME as the archive of that key, and drop what newer archives have replaced."""
    archive = scope / f"{name}-{key}.tar"
    temporary = scope / f"{archive.name}.{platform.node()}.partial"
    _, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard_limit))
    try:
        subprocess.run(["tar", "-cf", str(temporary), "-C", str(folder), name], check=True)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.rename(archive)
    finally:
        temporary.unlink(missing_ok=True)
    by_age = sorted(scope.glob(f"{name}-*.tar"), key=modified, reverse=True)
    abandoned = [path for path in scope.glob(f"{name}-*.partial") if time.time() - modified(path) > ABANDONED_SECONDS]
    for old in by_age[KEEP_ARCHIVES:] + abandoned:
        old.unlink(missing_ok=True)


def modified(path: Path) -> float:
    """Return the time of last change, or 0 for a file that another run has just removed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def main(arguments: list[str]) -> None:
    """Run one of the two commands; print what happened."""
    parser = argparse.ArgumentParser(description="Keep installed dependencies between runs.")
    parser.add_argument("command", choices=["restore", "save"])
    parser.add_argument("--name", required=True, help="what is kept: a folder inside FOLDER")
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--version-of", help="the program whose version is part of the key")
    parser.add_argument("--key-file", action="append", default=[], help="relative to FOLDER, or absolute")
    parser.add_argument(
        "--weekly", action="store_true", help="forget after the week: for requirements without versions"
    )
    parser.add_argument("--cache", type=Path, default=Path("/striv/cache"), help="has own/ and protected/")
    parser.add_argument("--state", type=Path, default=Path("/striv/state"), help="handed from restore to save")
    parser.add_argument("--limit-mebibytes", type=int, default=1024, help="what one archive may take")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    if given.command == "restore":
        version = subprocess.run([given.version_of, "--version"], check=True, capture_output=True, text=True, cwd="/")
        year, week, _ = dt.datetime.now(dt.UTC).isocalendar()
        key = compute_key(
            name=given.name,
            version=version.stdout.strip(),
            week=f"{year}-{week}" if given.weekly else "",
            files=[given.folder / file for file in given.key_file],
        )
        (given.state / "key").write_text(key)
        scopes = [given.cache / "own", given.cache / "protected"]
        archive = restore(folder=given.folder, name=given.name, key=key, scopes=scopes)
        if archive:
            (given.state / "restored").touch()
        print(f"cache: {archive or 'nothing'} for {given.name} in {time.monotonic() - started:.1f} s")
    elif (given.state / "restored").exists():
        print(f"cache: {given.name} came from it and is not stored again")
    else:
        save(
            folder=given.folder,
            name=given.name,
            key=(given.state / "key").read_text(),
            scope=given.cache / "own",
            limit_bytes=given.limit_mebibytes * 2**20,
        )
        print(f"cache: stored {given.name} in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"cache: not used: {error}")
