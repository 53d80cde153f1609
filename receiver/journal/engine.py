"""Opening the database: SQLite with every promise that an acknowledgement needs, or PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Dialect, Engine, ExceptionContext, event, make_url

from receiver.errors import ConflictError, JournalError, SettingsError
from receiver.journal.bulk import STATEMENTS
from receiver.journal.creation import create_for_group
from receiver.journal.opening import is_read_only, opened

BUSY_TIMEOUT_SECONDS = 1.5
NETWORK = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8_000,
}
"""How soon a PostgreSQL whose host is gone counts as away (libpq's words); its own timeouts cannot tell us."""
_READ = "receiver_read_only"
_OVERTAKEN = {"40P01", "40001", "55P03"}  # deadlock, serialization failure, lock not available (PostgreSQL's SQLSTATE)
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs", "beegfs", "ncpfs", "9p"}


def sqlite_module() -> ModuleType:
    """Return the SQLite binding to use: pysqlite3, which carries its own fixed SQLite, or the interpreter's."""
    try:
        import pysqlite3.dbapi2  # noqa: PLC0415 - it has no wheel for every platform
    except ImportError:
        return sqlite3
    module: ModuleType = pysqlite3.dbapi2
    return module


def safe_sqlite(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite is free of the WAL-reset bug, which can lose commits (https://sqlite.org/wal.html#walresetbug)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def sqlite_path(url: URL) -> Path | None:
    """Return the file of a SQLite URL, None for another database."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def journal_url(text: str) -> URL:
    """Parse and check `journal.url`; raises SettingsError when it is neither a SQLite file nor PostgreSQL."""
    try:
        url = make_url(text)
    except sqlalchemy.exc.ArgumentError as error:
        raise SettingsError("journal.url is not a database URL; write sqlite:////absolute/path/journal.db") from error
    if url.get_backend_name() == "sqlite" and Path(url.database or "").is_absolute():
        return url
    if url.drivername == "postgresql+psycopg":
        # SQLAlchemy shows what stands in a query, and never a password in its own place.
        password = url.query.get("password", url.password)
        return url.set(password=str(password or "") or None).difference_update_query(["password"])
    raise SettingsError(
        "journal.url has to be sqlite:////absolute/path/journal.db or postgresql+psycopg://user@host/database"
    )


def open_engine(url: URL, *, durable: bool = True, mounts: Path = _MOUNTS) -> Engine:
    """Return an engine for the journal.

    `durable` makes every SQLite commit reach the disk before it returns (WAL, synchronous=FULL). The private plane
    may do without: each of its steps can be repeated. `mounts` lists what is mounted where, as proc(5) says of
    mountinfo. Raises SettingsError for an unsafe SQLite or file system; for a PostgreSQL database whose encoding is not
    UTF8, whoever connects first gets it.
    """
    file = sqlite_path(url)
    if file is None:
        return _postgresql(url, durable=durable)
    module = sqlite_module()
    if not safe_sqlite(module.sqlite_version_info):
        raise SettingsError(
            f"this Python's SQLite {module.sqlite_version} can lose commits (the WAL-reset bug); "
            "install pysqlite3>=0.6.1 or a Python with SQLite 3.51.3, 3.50.7 or 3.44.6"
        )
    if not file.parent.is_dir():
        raise SettingsError(
            f"the folder of the journal, {file.parent}, does not exist; create it or correct journal.url"
        )
    if (kind := _file_system(file.parent, mounts)) in _NETWORK or kind.startswith("fuse."):
        raise SettingsError(
            f"the journal {file} lies on a network file system ({kind}), where SQLite can lose commits; use a local volume"
        )
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite+pysqlite"),
        module=module,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "isolation_level": None, "cached_statements": STATEMENTS},
    )

    @event.listens_for(engine, "do_connect")
    def _connecting(dialect: Dialect, _record: Any, arguments: Any, named: Any) -> Any:
        create_for_group(file)
        connect = partial(dialect.connect, *arguments, **named)
        return opened(connect, durable=durable, busy_timeout_seconds=BUSY_TIMEOUT_SECONDS)

    @event.listens_for(engine, "handle_error")
    def _failed(context: ExceptionContext) -> None:
        # What was opened while the disk took no writes stays so; the next transaction gets another connection.
        context.is_disconnect |= is_read_only(context.original_exception)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE, since a deferred transaction that turns into a writer fails at once, whatever the busy timeout.
        read = connection.get_execution_options().get(_READ)
        connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL, *, durable: bool) -> Engine:
    options = {
        "statement_timeout": 5_000,
        "lock_timeout": 2_000,
        "idle_in_transaction_session_timeout": 10_000,
        "synchronous_commit": "on" if durable else "off",
    }
    settings = {
        **NETWORK,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        # Whatever PGCLIENTENCODING or the role says: without an encoding, text would come as bytes.
        "client_encoding": "UTF8",
    }
    engine = sqlalchemy.create_engine(
        url,
        pool_size=4,
        max_overflow=4,
        pool_pre_ping=True,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        connect_args=settings,
    )

    @event.listens_for(engine, "do_connect")
    def _connecting(_dialect: Dialect, _record: Any, arguments: Any, named: Any) -> Any:
        from receiver.journal.impatient import ImpatientConnection  # noqa: PLC0415 - psycopg costs memory that SQLite needs not

        return ImpatientConnection.connect(*arguments, **named)

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # The server reports it when a connection opens; a pooler in between may not.
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            name = connection.info.dbname
            connection.close()
            raise SettingsError(
                f"the journal's database {name} has the encoding {encoding}, which cannot hold every branch and message; "
                "create another (CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8') and name it in journal.url"
            )

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write; commits at the end.

    Raises JournalError for whatever the database refuses; ConflictError when another process was quicker.
    """
    with _translated(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads and keeps no writer waiting. Raises JournalError."""
    with _translated(), engine.connect().execution_options(**{_READ: True}) as connection:
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        text = f"{type(cause).__name__}: {str(cause).strip()}"
        if isinstance(error, sqlalchemy.exc.IntegrityError) or getattr(cause, "sqlstate", None) in _OVERTAKEN:
            raise ConflictError(f"another process was quicker: {text}") from error
        raise JournalError(f"the journal does not answer: {text}") from error


def _file_system(folder: Path, mountinfo: Path) -> str:
    """Return the type of the file system that holds `folder`, an empty string where Linux does not tell."""
    folder = folder.resolve()
    try:
        mounts = mountinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        inside = folder.is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind
