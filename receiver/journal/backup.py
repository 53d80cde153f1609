"""A consistent copy of a SQLite journal, taken while both planes write it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sqlalchemy import Engine

from receiver.errors import PermanentError
from receiver.journal.engine import reading, sqlite_module
from receiver.journal.opening import distrust_schema

_ENDS = ("", "-journal", "-wal", "-shm")
"""What SQLite may put beside a database, by the end of the name."""


def back_up(engine: Engine, target: Path) -> int:
    """Copy the journal to the new file `target`, mode 0600, and return its size in bytes.

    The copy is what was committed at one moment, all in one file, and nobody waits for it: SQLite's backup interface reads one
    snapshot of the WAL (https://sqlite.org/backup.html). Pages are copied as they are, so that a journal which somebody
    tampered with stays evidence. The file has its name only when it is whole, on disk and proved by `integrity_check`.

    Raises PermanentError when the file exists or cannot be written, and when the copy is damaged; JournalError when the
    journal cannot be read.
    """
    try:
        # Nobody else gets the name meanwhile.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        raise PermanentError(f"{target} exists already, and a backup replaces nothing; name another file") from error
    except OSError as error:
        raise _unwritable(target, error) from error
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(descriptor)
        part = Path(name)
        _copy(engine, part)
        _prove(part)
        part.replace(target)
        _sync(target.parent)
    except BaseException as error:
        for left in (target, *(part.with_name(part.name + end) for end in _ENDS if part)):
            left.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise
    return target.stat().st_size


def _copy(engine: Engine, part: Path) -> None:
    module = sqlite_module()
    copy = module.connect(part, isolation_level=None)
    try:
        with reading(engine) as connection:
            source = connection.connection.driver_connection
            if source is None:
                raise TypeError("a connection in use has a driver's connection")
            source.backup(copy)
        # One file without -wal and -shm beside it. The receiver makes it a WAL again when it opens it.
        (mode,) = copy.execute("PRAGMA journal_mode=DELETE").fetchone()
        if mode != "delete":
            raise PermanentError(f"the copy stays in the journal mode {mode}")
    except module.Error as error:
        raise PermanentError(f"the journal could not be copied: {error}") from error
    finally:
        copy.close()


def _prove(part: Path) -> None:
    module = sqlite_module()
    # A new connection, which has to read what is in the file.
    copy = module.connect(part, isolation_level=None)
    try:
        distrust_schema(copy)
        found = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(3)")]
    except module.Error as error:
        found = [str(error)]
    finally:
        copy.close()
    if found != ["ok"]:
        raise PermanentError(
            f"the copy is damaged, and so the journal may be: {'; '.join(found)}; stop both planes and look at it"
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(target: Path, error: OSError) -> PermanentError:
    return PermanentError(f"{target} cannot be written ({error.strerror or error}); name another file")
