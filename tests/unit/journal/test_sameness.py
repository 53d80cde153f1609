"""Which deliveries are of one push, and which are not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from receiver.journal.intake import ACCEPTED, DUPLICATE
from receiver.journal.schema import deliveries, jobs, keys, pushes
from tests.support.journals import count, delivery, rows, sha, take


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    ("second", "is_new"),
    [
        ({"id": "b", "pushed_at": 1}, False),
        ({"id": "a", "pushed_at": 2}, False),
        ({"id": "b", "pushed_at": 2}, True),
        ({"id": "a", "pushed_at": 1, "seed": "2"}, True),
        ({"id": "a", "pushed_at": 1, "branch": "other"}, True),
        ({"id": "a", "pushed_at": 1, "before": sha("x")}, True),
        ({"id": "a", "pushed_at": None}, False),
        ({"id": "b", "pushed_at": None}, True),
    ],
)
def test_equal_content_with_equal_time_or_equal_guid_joins_and_a_guid_alone_never(
    engine: Engine, second: dict[str, Any], is_new: bool, batched: bool
) -> None:
    pair = delivery("1", id="a", pushed_at=1), delivery(**{"seed": "1", **second})
    receipts = take(engine, *pair) if batched else [take(engine, each)[0] for each in pair]
    assert [receipt.result for receipt in receipts] == [ACCEPTED, ACCEPTED if is_new else DUPLICATE]
    assert count(engine, jobs) == (2 if is_new else 1)


def test_a_body_that_comes_again_and_again_under_new_guids_leaves_no_key(engine: Engine) -> None:
    take(engine, delivery(id="a"))
    before = rows(engine, keys)
    assert {receipt.result for receipt in take(engine, *(delivery() for _ in range(20)))} == {DUPLICATE}
    assert rows(engine, keys) == before


def test_what_joined_by_guid_is_known_by_its_time_from_then_on(engine: Engine) -> None:
    first, joining, third = (delivery(id=i, pushed_at=at) for i, at in (("a", 1), ("a", 2), ("c", 2)))
    results = [take(engine, each)[0].result for each in (first, joining, third)]
    assert results == [ACCEPTED, DUPLICATE, DUPLICATE]
    assert len({row["push_key"] for row in rows(engine, deliveries)}) == 1


def test_two_deliveries_of_one_batch_can_join_a_stored_push_one_through_the_other(engine: Engine) -> None:
    take(engine, delivery(id="a", pushed_at=1, triggers=("one", "two")))
    receipts = take(
        engine,
        delivery(id="a", pushed_at=2, triggers=("one",)),
        delivery(id="c", pushed_at=2, triggers=("one", "two")),
    )
    assert [receipt.result for receipt in receipts] == [DUPLICATE, DUPLICATE]
    assert count(engine, jobs) == 2


@pytest.mark.parametrize("batched", [True, False])
def test_pushing_back_and_forth_starts_as_many_jobs_as_pushes(engine: Engine, batched: bool) -> None:
    one, two = sha("A"), sha("B")
    moves = [
        delivery(pushed_at=at, before=before, after=after, head_commit={"id": after})
        for at, (before, after) in enumerate([(one, two), (two, one), (one, two), (two, one)], start=100)
    ]
    receipts = take(engine, *moves) if batched else [take(engine, move)[0] for move in moves]
    assert [receipt.result for receipt in receipts] == [ACCEPTED] * 4
    assert len({receipt.jobs[0].run_name for receipt in receipts}) == 4


def test_a_batch_that_holds_a_push_twice_makes_one_job(engine: Engine) -> None:
    receipts = take(engine, delivery(id="a"), delivery(id="b"), delivery("2"), delivery(id="a"))
    assert [receipt.result for receipt in receipts] == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE]
    assert [receipt.in_flight for receipt in receipts] == [True] * 4
    assert (count(engine, jobs), count(engine, pushes)) == (2, 2)
