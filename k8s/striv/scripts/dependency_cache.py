# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Keep installed dependencies between runs, as archives that are complete or absent.

`restore` unpacks the archives that fit a commit and says for each kind whether it did; `save` stores one kind after an
installation. An archive is written under a temporary name and renamed: readers see whole archives only, any number of runs
may write at once, and one that is killed leaves a temporary file that the next one removes.

The cache only saves time: whatever is wrong with it is printed, and the run installs instead.
"""

import argparse
import concurrent.futures
import dataclasses
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

FORMAT = "3"
KEEP_ARCHIVES = 2
ABANDONED_SECONDS = 3600
END_BYTES = 1024
CONSTRAINTS = "/striv/constraints/constraints.txt"
NPM_FILES = ("package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc")
# Those behind the requirements are read when these name the commit itself.
PIP_FILES = ("requirements.txt", "requirements-dev.txt", "setup.py", "setup.cfg", "pyproject.toml")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A folder of installed dependencies, and what decides on its content."""

    name: str
    parent: str
    """Relative to the workspace."""
    key_files: tuple[str, ...]
    """Relative to the workspace, or absolute."""
    is_weekly: bool
    """Requirements without versions mean something else next week."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("node_modules", "source", tuple(f"source/{name}" for name in NPM_FILES), False),
        Kind("venv", ".", (*(f"source/{name}" for name in PIP_FILES), CONSTRAINTS), True),
    )
}


def compute_key(kind: Kind, *, version: str, week: str, files: list[Path]) -> str:
    """Hash everything that the installed files depend on: the tool, the machine, the week and the key files."""
    digest = hashlib.sha256()
    for part in (FORMAT, kind.name, version, platform.machine(), week if kind.is_weekly else ""):
        digest.update(part.encode() + b"\0")
    for file in files:
        if file.is_file():
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        # Fewer bytes than a digest: no content is the same as no file.
        digest.update(f"{file.name}\0".encode())
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
        # A link could lead into another branch's folder, which is mounted too.
        if archive.is_symlink() or not archive.is_file():
            continue
        if not has_end(archive):
            print(f"cache: {archive} has no end", flush=True)
            continue
        try:
            unpack(archive, folder, name)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"cache: {archive} is not usable: {error}", flush=True)
            continue
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


def result_of(kind: Kind, what: str) -> Path:
    """Return the file of a result of the Task: $NODE_MODULES_KEY and so on."""
    return Path(os.environ[f"{kind.name.upper()}_{what}"])


def restore_kind(kind: Kind, *, version: str, given: argparse.Namespace) -> None:
    """Restore one kind and write its results; print what happened."""
    started = time.monotonic()
    try:
        year, week, _ = dt.datetime.now(dt.UTC).isocalendar()
        files = [given.workspace / file for file in kind.key_files]
        key = compute_key(kind, version=version, week=f"{year}-{week}", files=files)
        result_of(kind, "KEY").write_text(key)
        scopes = [given.cache / file.read_text() for file in given.scope_file]
        archive = restore(folder=given.workspace / kind.parent, name=kind.name, key=key, scopes=scopes)
    except OSError as error:
        print(f"cache: not used for {kind.name}: {error}", flush=True)
        return
    if archive:
        result_of(kind, "RESTORED").write_text("true")
    print(f"cache: {archive or 'nothing'} for {kind.name} in {time.monotonic() - started:.1f} s", flush=True)


def restore_all(given: argparse.Namespace) -> None:
    """Restore every kind at the same time: unpacking one waits for the disk more than for the processor."""
    for kind in KINDS.values():
        # Whatever happens below, the Pipeline finds its results.
        result_of(kind, "KEY").touch()
        result_of(kind, "RESTORED").write_text("false")
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True, cwd="/").stdout.strip()
    versions = {"node_modules": node, "venv": given.python_version_file.read_text().strip()}
    with concurrent.futures.ThreadPoolExecutor(len(KINDS)) as pool:
        for done in [pool.submit(restore_kind, KINDS[name], version=v, given=given) for name, v in versions.items()]:
            done.result()


def save_kind(given: argparse.Namespace) -> None:
    """Store what was installed."""
    started = time.monotonic()
    kind, key = KINDS[given.kind], os.environ["KEY"]
    if not key:
        print(f"cache: {kind.name} has no key and is not stored")
        return
    limit_bytes = given.limit_mebibytes * 2**20
    save(folder=given.workspace / kind.parent, name=kind.name, key=key, scope=given.cache, limit_bytes=limit_bytes)
    print(f"cache: stored {kind.name} in {time.monotonic() - started:.1f} s")


def main(arguments: list[str]) -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description="Keep installed dependencies between runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    restoring = commands.add_parser(
        "restore", help="$NODE_MODULES_KEY, $VENV_RESTORED and so on name the results' files"
    )
    restoring.add_argument(
        "--scope-file", action="append", type=Path, required=True, help="names a folder of the cache"
    )
    restoring.add_argument("--python-version-file", type=Path, required=True)
    saving = commands.add_parser("save", help="$KEY is the key")
    saving.add_argument("--kind", choices=list(KINDS), required=True)
    saving.add_argument("--limit-mebibytes", type=int, default=1024, help="what one archive may take")
    for command in (restoring, saving):
        command.add_argument("--workspace", required=True, type=Path)
        command.add_argument("--cache", type=Path, default=Path("/striv/cache"))
    given = parser.parse_args(arguments)
    if given.command == "restore":
        restore_all(given)
    else:
        save_kind(given)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"cache: not used: {error}")
