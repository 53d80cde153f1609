"""Rights are given while others work: nothing is locked where nothing is to be done, and nobody is kept waiting for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from receiver.errors import ConflictError, JournalError
from receiver.journal import migrate as migration
from receiver.journal import prune as pruning
from receiver.journal.intake import DUPLICATE
from receiver.journal.jobs import Jobs
from receiver.journal.migrate import migrate
from receiver.journal.prune import Retention, prune
from receiver.journal.roles import Roles
from receiver.journal.schema import jobs, keys, pushes
from tests.support.jobs import claim, end, kill_all, start
from tests.support.journals import NOW, TRIGGER, count, delivery, rows, run_sql, take
from tests.support.postgres import OWNER, SERVE, WORK, Database
from tests.support.waiting import wait_until

ROLES = Roles(serve=SERVE, work=WORK)
DAY = 86_400.0
RETENTION = Retention(keep_days=1, keep_count=100, replay_window_days=5)


def never(_seconds: float) -> None:
    raise AssertionError("there is nothing to wait for")


@contextmanager
def left_open(database: Database, role: str, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has done something and does not end by itself."""
    with database.connection(role) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("BEGIN")
        connection.execute(statement)
        yield connection
        connection.execute("ROLLBACK")


def finish_three(serve: Engine, work: Engine) -> None:
    """Three pushes whose runs have ended."""
    take(serve, delivery("1"), delivery("2"), delivery("3"))
    for job in claim(work):
        start(work, job)
    end(work)


def may_read_payloads(database: Database) -> bool:
    with database.connection(SERVE) as connection:
        asked = connection.execute("SELECT has_column_privilege('pushes', 'body', 'SELECT')").fetchone()
    assert asked is not None
    return bool(asked[0])


def waiting_for_locks(database: Database) -> int:
    with database.connection(OWNER) as connection:
        asked = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    assert asked is not None
    return int(asked[0])


def test_a_pod_that_starts_beside_an_open_transaction_locks_nothing_when_all_have_their_rights(
    database: Database,
) -> None:
    """As with each pod of a rollout, be it that a backup runs or that the public plane's role means ill."""
    reading = left_open(database, WORK, "SELECT 1 FROM keys")
    writing = left_open(database, SERVE, "INSERT INTO revivals (job_key, guid, asked_at) VALUES (sha256('x'), 'x', 1)")
    locking = left_open(database, SERVE, f"SELECT pg_advisory_lock({migration.ADVISORY_LOCK})")
    with reading, writing, locking, database.engine(OWNER) as owner:
        assert migrate(owner, now=NOW, roles=ROLES, pause=never) is False


def test_a_lock_that_any_role_may_take_does_not_keep_the_rights_from_being_given(database: Database) -> None:
    locking = left_open(database, SERVE, f"SELECT pg_advisory_lock({migration.ADVISORY_LOCK})")
    with locking, database.engine(OWNER) as owner:
        run_sql(owner, f"GRANT SELECT ON pushes TO {SERVE}")
        migrate(owner, now=NOW, roles=ROLES, pause=never)
        assert not may_read_payloads(database)


def test_rights_are_given_amid_deliveries_of_which_none_fails(database: Database) -> None:
    stopping = threading.Event()

    def deliver(sender: int) -> int:
        with database.engine(SERVE) as serve:
            taken = 0
            while not stopping.is_set():
                take(serve, delivery(f"{sender} {taken}"))
                taken += 1
            return taken

    with database.engine(OWNER) as owner, ThreadPoolExecutor(3) as pool:
        senders = [pool.submit(deliver, sender) for sender in range(3)]
        try:
            for _ in range(10):
                run_sql(owner, f"GRANT SELECT ON pushes TO {SERVE}")
                migrate(owner, now=NOW, roles=ROLES, pause=lambda _seconds: None)
                assert not may_read_payloads(database)
        finally:
            stopping.set()
        taken = sum(sender.result() for sender in senders)
        assert count(owner, jobs) == taken > 10


@pytest.mark.parametrize("max_active", [None, {TRIGGER: 1}], ids=["unbounded", "bounded"])
@pytest.mark.parametrize("redelivered", [False, True])
def test_a_claim_and_whoever_gives_rights_wait_in_one_order_and_never_for_each_other(
    database: Database, max_active: dict[str, int] | None, redelivered: bool
) -> None:
    with (
        database.engine(OWNER) as owner,
        database.engine(SERVE) as serve,
        database.engine(WORK) as work,
        ThreadPoolExecutor(2) as pool,
        left_open(database, WORK, "SELECT version FROM journal") as other,
    ):
        take(serve, new := delivery())
        if redelivered:
            kill_all(work)
            take(serve, new)
        run_sql(owner, f"GRANT SELECT ON pushes TO {SERVE}")
        giving = pool.submit(migrate, owner, now=NOW, roles=ROLES, pause=never)
        wait_until(lambda: waiting_for_locks(database) == 1, what="who gives rights waits")
        claiming = pool.submit(Jobs(work).claim, now=NOW, limit=5, lease_seconds=10, max_active=max_active)
        wait_until(lambda: waiting_for_locks(database) == 2, what="the claim waits")
        other.execute("COMMIT")
        assert giving.result() is False
        assert len(claiming.result()) == 1
    assert not may_read_payloads(database)


@pytest.mark.parametrize(
    "slip",
    [
        f"GRANT SELECT ON pushes TO {SERVE}",
        f"GRANT SELECT (body) ON pushes TO {SERVE}",
        "GRANT SELECT ON pushes TO PUBLIC",
    ],
)
def test_rights_that_somebody_changed_are_put_right(database: Database, slip: str) -> None:
    with database.engine(OWNER) as owner:
        run_sql(owner, slip)
        assert may_read_payloads(database)
        migrate(owner, now=NOW, roles=ROLES, pause=never)
        assert not may_read_payloads(database)


@pytest.mark.parametrize(
    "slip",
    [
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        f"CREATE POLICY lax ON jobs FOR INSERT TO {SERVE} WITH CHECK (true)",
    ],
)
def test_row_security_that_somebody_changed_is_put_right_or_no_longer_taken_for_right(
    database: Database, slip: str
) -> None:
    asked = "SELECT relrowsecurity FROM pg_class WHERE oid = 'jobs'::regclass"
    with database.engine(OWNER) as owner, database.connection(OWNER) as connection:
        noted = connection.execute("SELECT obj_description('journal'::regclass)").fetchone()
        run_sql(owner, slip)
        migrate(owner, now=NOW, roles=ROLES, pause=never)
        assert connection.execute(asked).fetchone() == (True,)
        again = connection.execute("SELECT obj_description('journal'::regclass)").fetchone()
        assert (again == noted) == ("DISABLE" in slip)


def test_rights_that_have_to_be_given_wait_for_an_open_transaction_in_moments_and_then_come(database: Database) -> None:
    pauses: list[float] = []
    with (
        database.engine(OWNER) as owner,
        database.engine(SERVE) as serve,
        left_open(database, WORK, "SELECT 1 FROM keys") as other,
    ):
        run_sql(owner, f"GRANT SELECT ON pushes TO {SERVE}")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            take(serve, delivery(f"between {len(pauses)}"))
            if len(pauses) == 2:
                other.execute("COMMIT")

        migrate(owner, now=NOW, roles=ROLES, pause=pause)
        assert len(pauses) == 2
        assert not may_read_payloads(database)


def test_a_transaction_that_never_ends_is_named_as_what_keeps_the_rights_from_being_given(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "_TRIES", 2)
    with database.engine(OWNER) as owner, left_open(database, WORK, "SELECT 1 FROM keys"):
        run_sql(owner, f"GRANT SELECT ON pushes TO {SERVE}")
        with pytest.raises(JournalError, match=r"somebody keeps the journal's tables locked: .*PostgreSQL is away"):
            migrate(owner, now=NOW, roles=ROLES, pause=lambda _seconds: None)


def test_a_transaction_that_the_public_planes_role_leaves_open_keeps_one_push_from_being_forgotten_and_no_other(
    database: Database,
) -> None:
    with database.engine(SERVE) as serve, database.engine(WORK) as work:
        finish_three(serve, work)
        planted = (
            "INSERT INTO jobs (job_key, push_key, trigger, generation, guid, repository, repository_id, ref, head_sha, run_name,"
            " state, created_at, waiting_since, due_at, attempts, lease, lease_until, salt)"
            " SELECT sha256(push_key), push_key, 'x', 1, '', '', 1, '', '', 'x', 'waiting', 1, 1, 1, 0, 0, 0, 0"
            " FROM pushes ORDER BY push_key LIMIT 1"
        )
        with left_open(database, SERVE, planted):
            assert prune(work, RETENTION, now=NOW + 9 * DAY) == 3
            assert count(work, pushes) == 1
            (kept,) = rows(work, jobs)
            assert {bytes(row["push_key"]) for row in rows(work, keys)} == {bytes(kept["push_key"])}
        prune(work, RETENTION, now=NOW + 9 * DAY)
        assert [count(work, table) for table in (jobs, pushes, keys)] == [0, 0, 0]
        assert take(serve, delivery("1"))[0].result != DUPLICATE


def test_what_one_open_transaction_keeps_is_left_to_the_next_time_and_keeps_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 1)
    with database.engine(SERVE) as serve, database.engine(WORK) as work:
        finish_three(serve, work)
        with left_open(database, WORK, "SELECT 1 FROM jobs WHERE id = 1 FOR UPDATE"):
            with pytest.raises(ConflictError):
                prune(work, RETENTION, now=NOW + 9 * DAY)
            (kept,) = rows(work, jobs)
            assert kept["id"] == 1
            assert {bytes(row["push_key"]) for row in rows(work, keys)} == {bytes(kept["push_key"])}
        prune(work, RETENTION, now=NOW + 9 * DAY)
        assert [count(work, table) for table in (jobs, pushes, keys)] == [0, 0, 0]
