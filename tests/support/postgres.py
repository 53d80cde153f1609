"""A real PostgreSQL of the tests' own, as durable as a real one, and a fresh database with its three roles for each test.

Register with `pytest_plugins = ["tests.support.postgres"]` in tests/conftest.py.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from receiver.journal.engine import open_engine
from receiver.journal.migrate import migrate
from receiver.journal.roles import Roles
from tests.controlplane.processes import Watchdog, free_ports
from tests.support.journals import NOW
from tests.support.needs import lacking
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
ROLES_FILE = ROOT / "k8s/overlays/postgresql/roles.sql"
OWNER, SERVE, WORK = "receiver_owner", "receiver_serve", "receiver_work"
_PLACES = Path("/usr/lib/postgresql")


class MissingError(Exception):
    """There is no PostgreSQL on this machine, or nobody to run it as."""


@dataclass(frozen=True)
class Database:
    """One database, on a server that may have a standby to fail over to."""

    server: PostgreSQL
    name: str
    standby: PostgreSQL | None = None

    def url(self, role: str) -> URL:
        """The URL for `journal.url` as this role."""
        url = URL.create("postgresql+psycopg", username=role, password=self.server.password, database=self.name)
        if self.standby is None:
            return url.set(host="127.0.0.1", port=self.server.port)
        hosts = tuple(f"127.0.0.1:{server.port}" for server in (self.server, self.standby))
        return url.set(query={"host": hosts, "target_session_attrs": "read-write"})

    def url_text(self, role: str) -> str:
        """The same as text, password included."""
        return self.url(role).render_as_string(hide_password=False)

    @contextmanager
    def engine(self, role: str = WORK, *, durable: bool = False) -> Iterator[Engine]:
        """An engine as this role, disposed of at the end."""
        engine = open_engine(self.url(role), durable=durable)
        try:
            yield engine
        finally:
            engine.dispose()

    @contextmanager
    def connection(self, role: str) -> Iterator[psycopg.Connection[Any]]:
        """A bare connection in which each statement is its own transaction, as a thief of the password would use it."""
        url = self.url(role).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


class PostgreSQL:
    """One server: its folder, its processes, and how to break it."""

    def __init__(self, folder: Path, *, programs: Path, user: str | None) -> None:
        """`user` is who runs the server, None for whoever runs the tests. Use `started` instead."""
        self.folder = folder
        self.programs = programs
        self.password = secrets.token_hex(8)
        self.port = free_ports(["postgresql"])["postgresql"]
        account = pwd.getpwnam(user) if user else None
        self._as: dict[str, Any] = (
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog = Watchdog()
        self._names = iter(range(1_000_000))

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[PostgreSQL]:
        """Start a server with an empty folder; nothing of it is left at the end. Raises MissingError."""
        with cls._prepared() as server:
            server.initialise()
            server.start()
            server.create_roles()
            yield server

    @contextmanager
    def standby(self) -> Iterator[PostgreSQL]:
        """Start a standby of this server, without whose word no durable commit returns from now on."""
        with self._prepared() as server:
            server.password = self.password
            server.run("pg_basebackup", "--pgdata", str(server.folder / "data"), "--write-recovery-conf", "--checkpoint=fast",
                        environment=self._environment())  # fmt: skip
            server.start()
            with self.admin() as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
                state = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                wait_until(lambda: connection.execute(state).fetchone(), what="a synchronous standby", seconds=30)
            yield server

    @classmethod
    @contextmanager
    def _prepared(cls) -> Iterator[PostgreSQL]:
        programs, user = find_programs(), _other_user()
        with ExitStack() as stack:
            # Not in pytest's folder, which nobody but its owner can enter. Short, because of the socket's path.
            folder = Path(tempfile.mkdtemp(prefix="striv-pg-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server = cls(folder, programs=programs, user=user)
            stack.callback(server._watchdog.close)
            if user:
                shutil.chown(folder, user)
            stack.callback(server.stop)
            yield server

    def initialise(self) -> None:
        """Make the empty server's folder."""
        file = self.folder / "password"
        file.write_text(self.password)
        file.chmod(0o644)
        self.run("initdb", "--pgdata", str(self.folder / "data"), "--username", "admin", "--auth", "scram-sha-256",
                  "--pwfile", str(file), "--encoding", "UTF8", "--no-locale", "--no-instructions")  # fmt: skip
        file.unlink()

    def create_roles(self) -> None:
        """Run the very file that users are given, and have the owner make the tables."""
        self.run(
            "psql", "--no-psqlrc", "--quiet", "--file", str(ROLES_FILE), "--dbname", "postgres",
            *(f"--set={name}_password={self.password}" for name in ("owner", "serve", "work")),
            environment=self._environment(),
            as_server=False,
        )  # fmt: skip
        with Database(self, "receiver").engine(OWNER) as engine:
            migrate(engine, now=NOW, roles=Roles(serve=SERVE, work=WORK))

    def _environment(self) -> dict[str, str]:
        """How libpq's programs get in as the superuser."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "admin", "PGPASSWORD": self.password}

    def run(
        self, program: str, *arguments: str, environment: dict[str, str] | None = None, as_server: bool = True
    ) -> None:
        """Run one of the programs that come with the server to its end."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", **(environment or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **(self._as if as_server else {}),
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"

    # ------------------------------------------------------------ up and down
    def start(self) -> None:
        """Start the server and return when it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "on",
            "synchronous_commit": "on",
            "shared_buffers": "32MB",
            "max_connections": 80,
            "deadlock_timeout": "200ms",
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
                + [part for name, value in options.items() for part in ("-c", f"{name}={value}")],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._as,
            )
        self._watchdog.add(self._process.pid)
        wait_until(self._answers, what=f"PostgreSQL to answer; see {self.folder}/log", seconds=30)

    def ensure_started(self) -> None:
        """Start the server again when a test that crashed it has failed before it could."""
        if self._process is None:
            self.start()

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends all connections, SIGQUIT (`immediate`) is a crash that recovery has to mend."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(30)
        self._watchdog.discard(self._process.pid)
        self._process = None

    def promote(self) -> None:
        """Make a standby the server that takes writes; returns when it does."""
        with self.admin() as connection:
            promoted = connection.execute("SELECT pg_promote()").fetchone()
        assert promoted == (True,), (self.folder / "log").read_text()[-3000:]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]
        try:
            self.admin().close()
        except psycopg.OperationalError:
            return False
        return True

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A superuser's connection; each statement is its own transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="admin",
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    # ------------------------------------------------------------ databases
    def receiver(self) -> Database:
        """The database that the shipped file made; tests may not fill it, since all others are copies."""
        return Database(self, "receiver")

    @contextmanager
    def database(self, *, migrated: bool = True, encoding: str = "UTF8") -> Iterator[Database]:
        """A new database, empty or with the journal's tables and grants; dropped at the end, whoever is still connected.

        Only an empty one can have another encoding.
        """
        name = f"test_{next(self._names)}"
        names = {"name": sql.Identifier(name), "owner": sql.Identifier(OWNER), "encoding": sql.Literal(encoding)}
        create = "CREATE DATABASE {name} OWNER {owner} ENCODING {encoding} TEMPLATE "
        create += "receiver" if migrated else "template0"
        with self.admin() as connection:
            connection.execute(sql.SQL(create).format(**names))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {name} FROM PUBLIC").format(**names))
            grant = f"GRANT CONNECT ON DATABASE {{name}} TO {SERVE}, {WORK}"
            connection.execute(sql.SQL(grant).format(**names))
        try:
            yield Database(self, name)
        finally:
            with self.admin() as connection:
                connection.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


def find_programs() -> Path:
    """Return the folder with initdb and postgres: on PATH, or the newest of Debian's; raises MissingError."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    versions = sorted(_PLACES.glob("*/bin"), key=lambda folder: float(re.sub(r"[^\d.]", "", folder.parent.name) or 0))
    for folder in [*found, *reversed(versions)]:
        if all((folder / program).exists() for program in ("initdb", "postgres", "psql")):
            return folder
    raise MissingError("no initdb, postgres and psql on PATH or in /usr/lib/postgresql/*/bin")


def _other_user() -> str | None:
    """Return the user to run as when we are root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise MissingError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for the session. Where there is none, tests fail when CI=true and else are skipped, as the summary says."""
    try:
        find_programs()
        _other_user()
    except MissingError as error:
        lacking(f"there is no PostgreSQL: {error}", untested="on PostgreSQL")
    with PostgreSQL.started() as server:
        yield server


@pytest.fixture
def database(postgresql: PostgreSQL) -> Iterator[Database]:
    """A fresh database with the journal's tables, and the three roles' rights on them."""
    with postgresql.database() as fresh:
        yield fresh
