"""What PostgreSQL refuses each role: the shipped k8s/overlays/postgresql/roles.sql and `journal migrate` at work."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import Table

from receiver.journal.guard import check_objects
from receiver.journal.jobs import Jobs
from receiver.journal.migrate import migrate
from receiver.journal.roles import Roles
from receiver.journal.schema import deliveries, jobs, journal, keys, pushes, revivals, transitions
from tests.support.journals import NOW, delivery, rows, take
from tests.support.postgres import OWNER, SERVE, WORK, Database, PostgreSQL

KEY = bytes(32)
TABLES = (deliveries, pushes, keys, jobs, transitions, revivals, journal)
DDL = (
    "CREATE TABLE planted (a int)",
    "CREATE TEMPORARY TABLE jobs (a int)",
    "CREATE SCHEMA planted",
    "CREATE VIEW planted AS SELECT 1",
    "CREATE FUNCTION planted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER planted BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE planted AS ON INSERT TO jobs DO INSTEAD NOTHING",
    "CREATE INDEX planted ON jobs (state)",
    "CREATE POLICY planted ON jobs USING (true)",
    "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE jobs ADD COLUMN planted int",
    "DROP TABLE jobs",
    "TRUNCATE jobs",
    "SET ROLE receiver_work",
    "SET ROLE receiver_owner",
    "GRANT UPDATE ON jobs TO receiver_serve",
    "COPY jobs TO PROGRAM 'true'",
    "ALTER ROLE receiver_serve SUPERUSER",
)


def refused(connection: psycopg.Connection[Any], statement: str, values: Any = None) -> bool:
    try:
        connection.execute(statement, values)
    except errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_public_planes_role_may_change_and_delete_nothing(database: Database, table: Table) -> None:
    column = next(iter(table.c)).name
    with database.connection(SERVE) as connection:
        assert refused(connection, f"UPDATE {table.name} SET {column} = {column}")  # noqa: S608 - our names
        assert refused(connection, f"DELETE FROM {table.name}")  # noqa: S608 - as above


@pytest.mark.parametrize(
    ("role", "statement"),
    [(role, statement) for role in (SERVE, WORK) for statement in DDL if statement != f"SET ROLE {role}"],
)
def test_neither_planes_role_may_change_the_schema_or_become_another(
    database: Database, role: str, statement: str
) -> None:
    with database.connection(role) as connection:
        # PostgreSQL refuses a GRANT to whom has no right to all of a table; for others it does nothing, and warns.
        if statement.startswith("GRANT"):
            refused(connection, statement)
            statement = "UPDATE jobs SET state = state" if role == SERVE else "TRUNCATE jobs"
        assert refused(connection, statement)


def test_the_public_planes_role_may_not_connect_to_a_fresh_database_of_the_server(postgresql: PostgreSQL) -> None:
    with postgresql.database(migrated=False) as fresh, fresh.connection(SERVE) as connection:
        assert refused(connection, "CREATE TABLE planted (a int)")


def test_the_public_planes_role_reads_no_payload(database: Database) -> None:
    with database.engine(SERVE) as engine:
        take(engine, delivery())
    with database.connection(SERVE) as connection:
        assert refused(connection, "SELECT body FROM pushes")
        assert refused(connection, "SELECT * FROM deliveries")
        assert refused(connection, "SELECT message FROM jobs")


@pytest.mark.parametrize("how", ["SELECT version FROM journal FOR SHARE", "LOCK TABLE jobs IN SHARE MODE"])
def test_the_public_planes_role_can_lock_nothing_that_the_private_plane_needs(database: Database, how: str) -> None:
    with database.connection(SERVE) as connection, connection.transaction(force_rollback=True):
        assert refused(connection, how)


def test_the_private_planes_role_leaves_the_version_and_the_log_as_they_are(database: Database) -> None:
    with database.connection(WORK) as connection:
        assert refused(connection, "UPDATE journal SET version = 2")
        assert refused(connection, "UPDATE transitions SET reason = 'another'")
        assert refused(connection, "UPDATE pushes SET body = ''")


FORGED: dict[str, dict[str, Any]] = {
    "finished": {"state": "finished", "result": "succeeded", "finished_at": NOW},
    "started": {"state": "started", "run_uid": "3e1e2b0c-0000-4000-8000-000000000000", "started_at": NOW},
    "dead": {"state": "dead", "reason": "planted"},
    "of a state that does not exist": {"state": "planted"},
    "of another generation": {"generation": 2},
    "leased": {"lease_until": 1e15},
    "in doubt": {"lease_until": 1.0},
    "with a lease that cannot be counted on": {"lease": 2**63 - 1},
    "tried": {"attempts": 9},
    "salted": {"salt": 1},
    "with a run": {"run_uid": "3e1e2b0c-0000-4000-8000-000000000000"},
    "with a message": {"message": "planted"},
    "of no time": {"waiting_since": float("inf")},
    "due at no time": {"due_at": float("nan")},
    **{
        f"with a huge {name}": {name: "g" * 10**6} for name in ("guid", "repository", "head_sha", "run_name", "trigger")
    },
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED.keys())
def test_the_public_planes_role_can_bring_no_job_but_a_fresh_one(database: Database, changes: dict[str, Any]) -> None:
    with database.engine(SERVE) as engine:
        take(engine, delivery())
    with database.engine(WORK) as engine:
        (job,) = rows(engine, jobs)
    unlike = {"job_key": bytes(32), "trigger": "other"}
    forged = {**job, **unlike, **changes}
    del forged["id"]
    columns = ", ".join(forged)
    statement = f"INSERT INTO jobs ({columns}) VALUES ({', '.join(['%s'] * len(forged))})"  # noqa: S608 - our names
    with database.connection(SERVE) as connection:
        assert refused(connection, statement, list(forged.values()))
        assert refused(connection, statement, list({**forged, "job_key": b"no digest"}.values()))
        fresh = {**forged, **{name: unlike.get(name, job[name]) for name in changes}}
        assert not refused(connection, statement, list(fresh.values()))


def test_the_public_planes_role_can_log_no_change_of_a_state(database: Database) -> None:
    statement = "INSERT INTO transitions (job_key, at, from_state, to_state, reason) VALUES (%s, %s, %s, %s, %s)"
    with database.connection(SERVE) as connection:
        assert refused(connection, statement, [KEY, 0, "waiting", "started", ""])
        assert refused(connection, statement, [KEY, 0, "", "finished", ""])
        assert refused(connection, statement, [b"no digest", 0, "", "waiting", ""])
        assert refused(connection, statement, [KEY, float("nan"), "", "waiting", ""])
        assert refused(connection, statement, [KEY, 0, "", "waiting", "r" * 10**6])
        assert not refused(connection, statement, [KEY, 0, "", "waiting", ""])


def test_the_public_planes_role_can_ask_for_revivals_that_fit_into_the_workers_memory_alone(database: Database) -> None:
    statement = "INSERT INTO revivals (job_key, guid, asked_at) VALUES (%s, %s, 0)"
    with database.connection(SERVE) as connection:
        assert refused(connection, statement, [b"k" * 10**6, "guid"])
        assert refused(connection, statement, [KEY, "g" * 10**6])
        assert not refused(connection, statement, [KEY, "guid"])
    with database.engine(WORK) as engine:
        assert Jobs(engine).claim(now=NOW, limit=1, lease_seconds=1) == []
        assert rows(engine, revivals) == []


NUMBERED = [table for table in TABLES if "id" in table.c]


@pytest.mark.parametrize("table", NUMBERED, ids=lambda table: table.name)
def test_the_public_planes_role_can_number_no_row(database: Database, table: Table) -> None:
    # One too large for the worker, or one that the sequence is about to give to the worker itself.
    with database.connection(SERVE) as connection:
        asked = "SELECT has_column_privilege(%s, %s, 'INSERT')"
        may = {column.name: connection.execute(asked, [table.name, column.name]).fetchone() for column in table.c}
        assert [name for name, answer in may.items() if answer != (True,)] == ["id"]
        assert refused(connection, f"SELECT setval('{table.name}_id_seq', 9000000000000000000)")


ODD: dict[str, tuple[Table, dict[str, Any]]] = {
    "a key that is no digest": (keys, {"key": b"k" * 2_000}),
    "a key of what is no digest": (keys, {"push_key": b"k" * 10**6}),
    "a push that is no digest": (pushes, {"push_key": b"k" * 2_000}),
    "a payload that nobody could read": (pushes, {"body": b"b" * 21_000_000}),
    "a delivery of no time": (deliveries, {"received_at": float("inf")}),
    "a replay": (deliveries, {"source": "replay"}),
    "a delivery of no push": (deliveries, {"push_key": b"k" * 10**6}),
    **{f"a delivery with a huge {name}": (deliveries, {name: "x" * 10**6}) for name in ("guid", "ref", "detail")},
}


@pytest.mark.parametrize(("table", "changes"), ODD.values(), ids=ODD.keys())
def test_the_public_planes_role_can_bring_nothing_that_others_cannot_read(
    database: Database, table: Table, changes: dict[str, Any]
) -> None:
    with database.engine(SERVE) as engine:
        take(engine, delivery())
    with database.engine(WORK) as engine:
        genuine = dict(rows(engine, table)[0])
    genuine.pop("id", None)
    genuine |= {name: KEY for name in ("key", "push_key") if name in genuine}
    statement = f"INSERT INTO {table.name} ({', '.join(genuine)}) VALUES ({', '.join(['%s'] * len(genuine))})"  # noqa: S608 - our names
    with database.connection(SERVE) as connection:
        assert refused(connection, statement, list({**genuine, **changes}.values()))
        assert not refused(connection, statement, list(genuine.values()))


def test_a_job_needs_its_push(database: Database) -> None:
    with database.engine(SERVE) as engine:
        take(engine, delivery())
    with database.engine(OWNER) as engine, engine.begin() as connection, pytest.raises(Exception, match="foreign key"):
        connection.exec_driver_sql("DELETE FROM pushes")


def test_granting_again_takes_back_what_was_granted_beside(database: Database) -> None:
    with database.connection(OWNER) as connection:
        connection.execute(f"GRANT UPDATE, DELETE ON jobs TO {SERVE}")
    with database.engine(OWNER) as engine:
        assert migrate(engine, now=NOW, roles=Roles(serve=SERVE, work=WORK)) is False
    with database.connection(SERVE) as connection:
        assert refused(connection, "UPDATE jobs SET state = 'finished'")


def test_names_of_roles_are_quoted(postgresql: PostgreSQL) -> None:
    with postgresql.database(migrated=False) as fresh, fresh.engine(OWNER) as engine:
        with postgresql.admin() as connection:
            connection.execute('CREATE ROLE "serve; DROP"')
        try:
            migrate(engine, now=NOW, roles=Roles(serve="serve; DROP", work=WORK))
            check_objects(engine)
        finally:
            with postgresql.admin(fresh.name) as connection:
                connection.execute('DROP OWNED BY "serve; DROP"')
                connection.execute('DROP ROLE "serve; DROP"')
