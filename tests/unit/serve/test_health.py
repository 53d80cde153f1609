"""Readiness: what it believes, when it asks, and what a flood of questions costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from receiver.errors import JournalError
from receiver.journal.intake import IGNORED, NewDelivery, Receipt
from receiver.journal.probe import PROBE
from receiver.journal.writer import BatchWriter
from receiver.serve.health import Health
from receiver.serve.steps import block
from tests.support.journals import ignored


class Desk:
    """A health check over a journal that counts what it is asked to write."""

    def __init__(self) -> None:
        self.now = 0.0
        self.error: JournalError | None = None
        self.batches: list[list[NewDelivery]] = []
        self.writer: BatchWriter[NewDelivery, Receipt] = BatchWriter(self.take, clock=lambda: self.now)
        self.health = Health(self.writer, clock=lambda: self.now)

    def take(self, batch: list[NewDelivery]) -> list[Receipt]:
        self.batches.append(batch)
        if self.error is not None:
            raise self.error
        return [Receipt(IGNORED) for _ in batch]

    def status(self, *, at: float) -> int:
        self.now = at
        return block(self.health.readiness()).status

    def deliver(self) -> None:
        self.writer.submit(ignored()).exception(10)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.writer.close()


def test_the_first_question_is_answered_by_a_write(desk: Desk) -> None:
    assert desk.status(at=0.0) == 200
    assert desk.batches == [[PROBE]]


def test_a_fresh_write_is_believed_and_an_old_one_is_not(desk: Desk) -> None:
    desk.deliver()
    assert desk.status(at=4.9) == 200
    assert len(desk.batches) == 1
    desk.error = JournalError("the disk is full")
    assert desk.status(at=5.0) == 503
    assert desk.batches[1:] == [[PROBE]]


def test_a_failed_write_counts_at_once_and_only_a_write_that_succeeds_says_otherwise(desk: Desk) -> None:
    desk.deliver()
    desk.error = JournalError("the disk is full")
    desk.deliver()
    assert desk.status(at=1.0) == 503
    desk.error = None
    assert desk.status(at=2.5) == 200
    assert [batch == [PROBE] for batch in desk.batches] == [False, False, True, True]


@pytest.mark.parametrize("error", [None, JournalError("the disk is full")])
def test_a_flood_of_questions_costs_one_write_a_second(desk: Desk, error: JournalError | None) -> None:
    desk.error = error
    found = {desk.status(at=100.0 + number / 100) for number in range(100)}
    assert found == {200 if error is None else 503}
    assert len(desk.batches) == 1


def test_while_one_asks_the_others_hear_what_was_found_before_and_cost_nothing(desk: Desk) -> None:
    assert desk.status(at=0.0) == 200
    desk.now = 10.0
    asking = desk.health.readiness()
    next(asking)
    assert desk.status(at=12.0) == 200
    assert len(desk.batches) <= 2
    asking.close()
    assert desk.status(at=20.0) == 200
