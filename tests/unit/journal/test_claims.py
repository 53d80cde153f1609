"""Which job can be claimed, when, and what it carries."""

from __future__ import annotations

import zlib

import pytest
from sqlalchemy import Engine, update

from receiver.journal.changes import postponed
from receiver.journal.jobs import Jobs
from receiver.journal.schema import jobs, pushes, revivals
from tests.support.changes import apply, claim_one, die, postpone, salt, start
from tests.support.jobs import claim
from tests.support.journals import NOW, count, delivery, rows, run_sql, take


def test_jobs_are_claimed_in_the_order_in_which_they_are_due_and_came(engine: Engine) -> None:
    take(engine, delivery("late", now=NOW - 1), delivery("first", now=NOW - 3), delivery("second", now=NOW - 3))
    take(engine, delivery("future", now=NOW + 1))
    heads = {delivery(seed).push.head_sha: seed for seed in ("late", "first", "second", "future")}  # type: ignore[union-attr]  # each of them is a push
    one = claim(engine, limit=2)
    rest = claim(engine)
    assert [[heads[job.head_sha] for job in part] for part in (one, rest)] == [["first", "second"], ["late"]]


@pytest.mark.parametrize("size", [*range(1, 10), 15, 16, 17, 63, 64, 65])
def test_a_claim_of_any_size_takes_just_so_many_leases_once_each(engine: Engine, size: int) -> None:
    take(engine, *(delivery(str(number)) for number in range(size + 1)))
    claimed = claim(engine, limit=size)
    leases = {row["id"]: row["lease"] for row in rows(engine, jobs)}
    assert len(claimed) == size
    assert leases == {row: int(row in {job.id for job in claimed}) for row in leases}


def test_a_claimed_job_carries_what_was_stored(engine: Engine) -> None:
    new = delivery(id="g")
    take(engine, new)
    (job,) = claim(engine)
    assert (job.payload, job.guid, job.trigger, job.generation) == (new.payload, "g", "striv", 1)
    assert (job.lease, job.salt, job.attempts, job.waiting_since) == (1, 0, 0, NOW)
    assert (job.repository, job.ref) == ("bittrance/striv", "refs/heads/main")


def test_a_postponed_job_waits_until_it_is_due_and_counts_its_attempts(engine: Engine) -> None:
    job = claim_one(engine)
    apply(engine, postpone(job))
    assert claim(engine, now=NOW + 29.9) == []
    (again,) = claim(engine, now=NOW + 30)
    assert again.attempts == 1
    apply(engine, postponed(again, due_at=NOW + 30, reason="away", at=NOW + 30, counts=False, in_doubt=False))
    (third,) = claim(engine, now=NOW + 30)
    assert third.attempts == 1


def test_a_salted_job_can_be_tried_at_once_under_another_name(engine: Engine) -> None:
    apply(engine, salt(claim_one(engine)))
    (again,) = claim(engine)
    assert (again.salt, again.attempts) == (1, 0)


def test_the_next_due_time_is_the_earliest_at_which_a_claim_would_succeed(engine: Engine) -> None:
    queue = Jobs(engine)
    assert queue.next_due(now=NOW) is None
    take(engine, delivery("1", now=NOW - 5), delivery("2", now=NOW + 7))
    assert queue.next_due(now=NOW) == NOW - 5
    (job,) = claim(engine)
    assert queue.next_due(now=NOW) == NOW + 7
    Jobs(engine).renew([job], until=NOW + 3)
    assert queue.next_due(now=NOW) == NOW + 3
    apply(engine, die(job))
    assert queue.next_due(now=NOW) == NOW + 7
    take(engine, delivery("1"))
    assert queue.next_due(now=NOW) == NOW


def test_a_dead_or_started_job_is_never_claimed(engine: Engine) -> None:
    take(engine, delivery("1"), delivery("2"))
    one, two = claim(engine)
    apply(engine, start(one), die(two))
    assert claim(engine, now=NOW + 1e6) == []
    assert Jobs(engine).next_due(now=NOW) is None


def test_forty_thousand_revivals_are_one_job_and_no_trouble(engine: Engine) -> None:
    apply(engine, die(claim_one(engine)))
    key = rows(engine, jobs)[0]["job_key"]
    with engine.begin() as connection:
        asked = [{"job_key": key, "guid": "g", "asked_at": NOW}] * 40_000
        connection.execute(revivals.insert(), asked)
    assert len(claim(engine)) == 1
    assert count(engine, revivals) == 0


@pytest.mark.parametrize(
    "body",
    [b"garbage", zlib.compress(b"{}")[:-1], b"", zlib.compress(bytes(64 * 1024 * 1024), 1)],
    ids=["garbage", "cut-off", "empty", "bomb"],
)
def test_a_damaged_body_costs_one_job_its_payload_and_no_other(engine: Engine, body: bytes) -> None:
    take(engine, delivery("1"))
    with engine.begin() as connection:
        connection.execute(update(pushes).values(body=body))
    take(engine, delivery("2"))
    assert [job.payload for job in claim(engine)] == [None, delivery("2").payload]


def test_a_pruned_body_leaves_a_job_without_payload(engine: Engine) -> None:
    take(engine, delivery())
    run_sql(engine, "DELETE FROM pushes")
    assert [job.payload for job in claim(engine)] == [None]
