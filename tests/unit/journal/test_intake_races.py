"""Whatever others take in at the same time, a push has one job."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from receiver.errors import JournalError
from receiver.journal.intake import ACCEPTED, DUPLICATE, NewDelivery, Receipt
from receiver.journal.schema import deliveries, jobs, keys, pushes, transitions
from tests.support.journals import count, delivery, opened, take


def test_ten_concurrent_deliveries_of_one_push_make_one_job(tmp_path: Path) -> None:
    start = threading.Barrier(10)
    with ExitStack() as stack:
        engines = [stack.enter_context(opened(tmp_path)) for _ in range(10)]

        def deliver(engine: Engine) -> Receipt:
            new = delivery()
            start.wait()
            return take(engine, new)[0]

        with ThreadPoolExecutor(10) as pool:
            receipts = list(pool.map(deliver, engines))
        assert sorted(receipt.result for receipt in receipts) == [ACCEPTED] + [DUPLICATE] * 9
        assert len({receipt.jobs for receipt in receipts}) == 1
        tables = (jobs, pushes, transitions, deliveries)
        assert [count(engines[0], table) for table in tables] == [1, 1, 1, 10]
        # For the time, for the job, and for the GUID that came first.
        assert count(engines[0], keys) == 3


def let_in_between(slow: Engine, quick: Engine, batches: Sequence[list[NewDelivery]]) -> None:
    """Between the look of `slow` and its inserts, let `quick` store one of `batches`, as two PostgreSQL replicas can.

    SQLite itself would make `quick` wait, so `slow` gives up its lock for that moment.
    """
    left = list(batches)

    @event.listens_for(slow, "before_cursor_execute")
    def _overtaken(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO deliveries") and left:
            connection.connection.driver_connection.execute("COMMIT")
            take(quick, *left.pop(0))
            connection.connection.driver_connection.execute("BEGIN IMMEDIATE")


def test_a_replica_that_was_overtaken_looks_again_and_joins(tmp_path: Path) -> None:
    with opened(tmp_path) as slow, opened(tmp_path) as quick:
        let_in_between(slow, quick, [[delivery("1")]])
        receipts = take(slow, delivery("1"), delivery("2"))
        assert [receipt.result for receipt in receipts] == [DUPLICATE, ACCEPTED]
        assert [count(quick, table) for table in (jobs, pushes, deliveries)] == [2, 2, 3]


def test_a_replica_can_be_overtaken_more_than_once(tmp_path: Path) -> None:
    with opened(tmp_path) as slow, opened(tmp_path) as quick:
        let_in_between(slow, quick, [[delivery("1")], [delivery("2")]])
        receipts = take(slow, delivery("1"), delivery("2"), delivery("3"))
        assert [receipt.result for receipt in receipts] == [DUPLICATE, DUPLICATE, ACCEPTED]
        assert count(quick, jobs) == 3


def test_a_replica_that_is_always_overtaken_gives_up_with_a_journal_error_and_stores_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as slow, opened(tmp_path) as quick:
        let_in_between(slow, quick, [[delivery(str(number))] for number in range(4)])
        with pytest.raises(JournalError, match="redeliver"):
            take(slow, *(delivery(str(number)) for number in range(8)))
        assert count(quick, jobs) == 4
