"""Group commit: who shares a transaction, and what everybody learns of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from receiver.errors import ConflictError, JournalError
from receiver.journal.writer import BatchWriter, LoopCompletions
from tests.support.waiting import wait_until


class Database:
    """What a writer writes to: remembers batches, and can be slow or broken."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None

    def process(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.entered.release()
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        return [item * 10 for item in items]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def writer(database: Database) -> Iterator[BatchWriter[int, int]]:
    writer = BatchWriter(database.process, capacity=300)
    yield writer
    database.open.set()
    writer.close()


def busy(database: Database, writer: BatchWriter[int, int]) -> None:
    """Return when the writer is in the middle of a transaction."""
    database.open.clear()
    writer.submit(0, wait=False)
    assert database.entered.acquire(timeout=10)


def test_items_that_arrive_during_a_transaction_share_the_next(
    database: Database, writer: BatchWriter[int, int]
) -> None:
    busy(database, writer)
    futures = [writer.submit(number) for number in (1, 2, 3)]
    assert not any(future.done() for future in futures)
    database.open.set()
    assert [future.result(10) for future in futures] == [10, 20, 30]
    assert database.batches == [[0], [1, 2, 3]]


def test_a_batch_is_bounded(database: Database, writer: BatchWriter[int, int]) -> None:
    busy(database, writer)
    futures = [writer.submit(number) for number in range(300)]
    database.open.set()
    assert [future.result(10) for future in futures] == [number * 10 for number in range(300)]
    assert [len(batch) for batch in database.batches] == [1, 256, 44]


def test_all_that_wait_for_a_journal_that_is_away_learn_it_with_the_first_of_them(
    database: Database, writer: BatchWriter[int, int]
) -> None:
    busy(database, writer)
    futures = [writer.submit(number) for number in range(300)]
    database.error = JournalError("the disk is full")
    database.open.set()
    for future in futures:
        with pytest.raises(JournalError, match="disk is full"):
            future.result(10)
    assert database.batches == [[0]]
    database.error = None
    assert writer.submit(4).result(10) == 40


def test_while_the_journal_is_away_one_batch_tries_and_who_comes_later_is_refused_at_once(database: Database) -> None:
    now = 0.0
    writer = BatchWriter(database.process, clock=lambda: now)
    database.error = JournalError("the disk is full")
    with pytest.raises(JournalError):
        writer.submit(1).result(10)
    assert database.entered.acquire(timeout=10)
    database.open.clear()
    trying = writer.submit(2)
    assert database.entered.acquire(timeout=10)
    right_behind = writer.submit(3)
    now = 0.5
    for wait in (True, False):
        with pytest.raises(JournalError, match="disk is full"):
            writer.submit(4, wait=wait)
    assert not trying.done()
    database.error = None
    database.open.set()
    assert [trying.result(10), right_behind.result(10)] == [20, 30]
    busy(database, writer)
    now = 99.0
    slow = writer.submit(5)
    database.open.set()
    assert slow.result(10) == 50
    writer.close()


@pytest.mark.parametrize("error", [ConflictError("another replica was quicker"), ZeroDivisionError("unforeseen")])
def test_a_conflict_or_a_fault_of_its_own_reaches_everybody_in_the_batch_and_nobody_else(
    error: Exception,
) -> None:
    faults: list[Exception | None] = [None, error, None]
    entered, go_on = threading.Semaphore(0), threading.Event()

    def process(items: list[int]) -> list[int]:
        entered.release()
        assert go_on.wait(10)
        if fault := faults.pop(0):
            raise fault
        return items

    writer = BatchWriter(process)
    writer.submit(0)
    assert entered.acquire(timeout=10)
    futures = [writer.submit(number) for number in range(256 + 2)]
    go_on.set()
    outcomes = [future.exception(10) for future in futures]
    assert outcomes == [error] * 256 + [None] * 2
    writer.close()


def test_why_items_that_nobody_waits_for_were_not_written_is_in_the_log(
    database: Database, writer: BatchWriter[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    database.error = JournalError("the disk is full")
    writer.submit(1, wait=False)
    with pytest.raises(JournalError):
        writer.submit(2).result(10)
    (record,) = caplog.records
    assert record.__dict__["problem"] == "the disk is full"


def test_any_error_whatever_reaches_who_waits_and_the_writer_lives_on(
    database: Database, writer: BatchWriter[int, int]
) -> None:
    database.error = ZeroDivisionError("unforeseen")
    with pytest.raises(ZeroDivisionError):
        writer.submit(1).result(10)
    database.error = None
    assert writer.submit(2).result(10) == 20


def test_too_few_results_are_an_error_for_all_and_the_writer_lives_on() -> None:
    answers = [[], [7]]
    writer: BatchWriter[int, int] = BatchWriter(lambda _items: answers.pop(0))
    with pytest.raises(ValueError, match="shorter"):
        writer.submit(1).result(10)
    assert writer.submit(2).result(10) == 7
    writer.close()


def test_more_than_the_capacity_is_refused_at_once(database: Database, writer: BatchWriter[int, int]) -> None:
    busy(database, writer)
    accepted = [writer.submit(number) for number in range(300)]
    with pytest.raises(JournalError, match="keep up"):
        writer.submit(300)
    with pytest.raises(JournalError):
        writer.submit(300, wait=False)
    database.open.set()
    assert accepted[-1].result(10) == 2990
    assert writer.submit(301).result(10) == 3010


def test_the_writer_fails_from_the_first_item_that_is_not_written_to_the_next_that_is(
    database: Database, writer: BatchWriter[int, int]
) -> None:
    assert not writer.failing
    database.error = JournalError("the disk is full")
    writer.submit(1, wait=False)
    wait_until(lambda: writer.failing, what="the failure of an item that nobody waits for")
    database.error = None
    writer.submit(2).result(10)
    assert not writer.failing


def test_a_refusal_for_want_of_room_counts_as_a_failure(database: Database, writer: BatchWriter[int, int]) -> None:
    busy(database, writer)
    accepted = [writer.submit(number) for number in range(300)]
    with pytest.raises(JournalError):
        writer.submit(300, wait=False)
    assert writer.failing
    database.open.set()
    accepted[-1].result(10)
    assert not writer.failing


def test_closing_writes_what_is_queued_and_then_takes_nothing(
    database: Database, writer: BatchWriter[int, int]
) -> None:
    busy(database, writer)
    future = writer.submit(1)
    closing = threading.Thread(target=writer.close)
    closing.start()
    assert not future.done()
    database.open.set()
    closing.join(10)
    assert future.result(0) == 10
    with pytest.raises(JournalError, match="stopping"):
        writer.submit(2)
    writer.close()
    assert database.batches == [[0], [1]]


def test_closing_takes_no_longer_than_it_is_given_and_what_was_not_written_fails(
    database: Database, writer: BatchWriter[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    busy(database, writer)
    future = writer.submit(1)
    writer.submit(2, wait=False)
    assert writer.close(0.01) is False
    with pytest.raises(JournalError, match="before this process stopped"):
        future.result(0)
    assert caplog.records[-1].__dict__["count"] == 1
    database.open.set()
    assert writer.close(10) is True
    assert database.batches == [[0]]


def test_a_waiter_that_gave_up_disturbs_nobody(database: Database, writer: BatchWriter[int, int]) -> None:
    busy(database, writer)
    gone, stays = writer.submit(1), writer.submit(2)
    assert gone.cancel()
    database.open.set()
    assert stays.result(10) == 20
    assert writer.submit(3).result(10) == 30


def test_nobody_gets_a_future_who_does_not_wait(database: Database, writer: BatchWriter[int, int]) -> None:
    assert writer.submit(1, wait=False) is None
    writer.close()
    assert database.batches == [[1]]


def test_futures_of_a_loop_are_resolved_in_the_loop_with_one_wake_up_for_a_batch(database: Database) -> None:
    class Counting(LoopCompletions):
        calls = 0

        def resolve(self, results: object) -> None:
            self.calls += 1
            super().resolve(results)  # type: ignore[arg-type]  # what the results are is no matter here

    async def scenario() -> None:
        completions = Counting(asyncio.get_running_loop())
        writer = BatchWriter(database.process, completions=completions)
        busy(database, writer)
        futures = [writer.submit(number) for number in range(1, 6)]
        seen: list[int] = []
        for future in futures:
            future.add_done_callback(lambda _done: seen.append(threading.get_ident()))
        abandoned = writer.submit(6)
        abandoned.cancel()
        database.open.set()
        assert await asyncio.wait_for(asyncio.gather(*futures), 10) == [10, 20, 30, 40, 50]
        await asyncio.sleep(0)
        assert set(seen) == {threading.get_ident()}
        assert completions.calls == 1
        database.error = JournalError("away")
        with pytest.raises(JournalError, match="away"):
            await asyncio.wait_for(writer.submit(7), 10)
        await asyncio.to_thread(writer.close)

    asyncio.run(scenario())
