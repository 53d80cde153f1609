"""Whether PostgreSQL takes a push: asked with the public plane's few rights, and never waited for without an end."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine, text

from receiver.errors import JournalError
from receiver.journal import impatient
from receiver.journal.engine import open_engine, writing
from receiver.journal.probe import PROBE, with_probes
from receiver.journal.schema import metadata
from tests.support.journals import count, delivery, rows, take
from tests.support.postgres import OWNER, SERVE, Database, PostgreSQL
from tests.support.proxy import Proxy, Toxic


def test_a_probe_with_the_rights_of_the_public_plane_leaves_no_row_and_waits_for_the_disk(
    postgresql: PostgreSQL, database: Database
) -> None:
    with database.engine(SERVE, durable=True) as serve, database.engine(OWNER) as owner, postgresql.admin() as admin:
        take(serve, delivery())
        before = {name: rows(owner, table) for name, table in metadata.tables.items()}
        flushed = admin.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        with_probes(serve, lambda _real: [])([PROBE])
        grown = admin.execute("SELECT pg_current_wal_flush_lsn() - %s::pg_lsn", flushed).fetchone()
        assert grown is not None
        assert grown[0] > 500
        assert {name: rows(owner, table) for name, table in metadata.tables.items()} == before


def test_a_probe_of_a_database_that_takes_no_writes_is_an_error(postgresql: PostgreSQL, database: Database) -> None:
    with postgresql.admin() as admin:
        admin.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with database.engine(SERVE) as serve, pytest.raises(JournalError, match="read-only"):
        with_probes(serve, lambda _real: [])([PROBE])


def ask_in_vain(engine: Engine, proxy: Proxy) -> None:
    with writing(engine) as connection:
        proxy.poison(Toxic(swallows=True))
        connection.execute(text("SELECT 1"))


def test_a_server_that_keeps_the_connection_and_says_nothing_is_not_waited_for_and_asked_anew_when_it_answers(
    postgresql: PostgreSQL, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatient, "SILENCE_SECONDS", 0.5)
    with Proxy(postgresql.port) as proxy:
        engine = open_engine(database.url(SERVE).set(port=proxy.port))
        take(engine, delivery("1"))
        began = time.monotonic()
        with pytest.raises(JournalError, match="said nothing"):
            ask_in_vain(engine, proxy)
        assert time.monotonic() - began < 3
        proxy.heal()
        take(engine, delivery("2"))
        assert count(engine, metadata.tables["journal"]) == 1
        engine.dispose()
