"""What the receiver asks of PostgreSQL for each connection, and what becomes of connections that end."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from receiver.errors import JournalError
from receiver.journal.engine import open_engine, reading, writing
from receiver.journal.intake import ACCEPTED
from receiver.journal.migrate import check_version
from receiver.journal.schema import deliveries
from tests.support.journals import delivery, rows, take
from tests.support.postgres import OWNER, SERVE, WORK, Database, PostgreSQL


def test_a_commit_waits_for_the_disk_in_the_public_plane_and_need_not_in_the_private_one(database: Database) -> None:
    for durable, expected in ((True, "on"), (False, "off")):
        with database.engine(SERVE, durable=durable) as engine, reading(engine) as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == expected
            assert connection.execute(text("SHOW fsync")).scalar() == "on"


@pytest.mark.parametrize(
    ("statement", "named"),
    [("SELECT pg_sleep(30)", "QueryCanceled"), ("SELECT pg_advisory_lock(1)", "LockNotAvailable")],
)
def test_no_statement_waits_for_long(database: Database, statement: str, named: str) -> None:
    with database.connection(SERVE) as other, database.engine(WORK) as engine:
        other.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(JournalError, match=named), writing(engine) as connection:
            connection.execute(text(statement))


def test_a_connection_that_is_left_in_a_transaction_is_ended_by_the_server(database: Database) -> None:
    with database.engine(SERVE) as engine, reading(engine) as connection:
        limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    assert limit == "10s"


def test_connections_that_the_server_ended_are_replaced_without_an_error(
    postgresql: PostgreSQL, database: Database, serve: Engine
) -> None:
    take(serve, delivery("1"))
    with postgresql.admin() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name])
    assert take(serve, delivery("2"))[0].result == ACCEPTED


def test_a_database_that_is_not_there_is_a_journal_error_and_not_a_traceback(postgresql: PostgreSQL) -> None:
    url = postgresql.receiver().url(SERVE).set(database="nowhere")
    engine = open_engine(url)
    with pytest.raises(JournalError, match='database "nowhere" does not exist'):
        check_version(engine)
    engine.dispose()


def test_an_encoding_that_the_environment_asks_for_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with database.engine(OWNER) as engine:
        take(engine, delivery(branch="größe-尺寸"))
        assert [row["ref"] for row in rows(engine, deliveries)] == ["refs/heads/größe-尺寸"]


def test_the_urls_of_several_hosts_name_the_one_that_takes_writes(postgresql: PostgreSQL, database: Database) -> None:
    """As after a failover: the first host refuses connections, the second takes writes."""
    url = URL.create(
        "postgresql+psycopg",
        username=SERVE,
        password=postgresql.password,
        database=database.name,
        query={"host": ("127.0.0.1:1", f"127.0.0.1:{postgresql.port}"), "target_session_attrs": "read-write"},
    )
    engine = open_engine(url)
    assert take(engine, delivery())[0].result == ACCEPTED
    engine.dispose()
