"""Asking whether the journal takes a push."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from receiver.errors import JournalError
from receiver.journal.intake import ACCEPTED, IGNORED, NewDelivery, Receipt
from receiver.journal.probe import PROBE, with_probes
from receiver.journal.schema import metadata
from tests.support.journals import count, delivery, opened, run_sql, statements_of, take


def ask(engine: Engine, *batch: NewDelivery) -> list[Receipt]:
    return with_probes(engine, lambda real: take(engine, *real))(list(batch))


def counts(engine: Engine) -> dict[str, int]:
    return {name: count(engine, table) for name, table in metadata.tables.items()}


def test_a_probe_leaves_no_row_and_reaches_the_disk_all_the_same(tmp_path: Path) -> None:
    with opened(tmp_path, durable=True) as engine:
        take(engine, delivery())
        log, before = tmp_path / "journal.db-wal", counts(engine)
        size = log.stat().st_size
        assert ask(engine, PROBE) == [Receipt(IGNORED)]
        probed = log.stat().st_size - size
        take(engine, delivery("2"))
        pushed = log.stat().st_size - size - probed
        assert counts(engine) == {**before, **dict.fromkeys(("deliveries", "pushes", "jobs", "transitions"), 2)} | {
            "keys": 6
        }
        assert probed > 0.8 * pushed, "it asks for about as much as a push needs"


def test_a_probe_among_deliveries_needs_no_transaction_of_its_own(engine: Engine) -> None:
    with statements_of(engine) as seen:
        receipts = ask(engine, PROBE, delivery("1"), PROBE, delivery("2"))
    assert [receipt.result for receipt in receipts] == [IGNORED, ACCEPTED, IGNORED, ACCEPTED]
    assert seen.count("BEGIN IMMEDIATE") == 1


def test_a_probe_only_inserts(engine: Engine) -> None:
    with statements_of(engine) as seen:
        ask(engine, PROBE)
    assert {statement.split()[0] for statement in seen} <= {"BEGIN", "SAVEPOINT", "INSERT", "ROLLBACK"}


def test_a_probe_on_a_journal_that_takes_no_writes_is_an_error(engine: Engine) -> None:
    run_sql(engine, "PRAGMA query_only = 1")
    with pytest.raises(JournalError, match="readonly"):
        ask(engine, PROBE)
