"""Leases: who may write what, and what a write that comes too late does."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from receiver.journal.jobs import Jobs
from receiver.journal.queries import Records
from receiver.journal.schema import WAITING, jobs, transitions
from tests.support.changes import KINDS, Kind, apply, claim_one, die, doubt, postpone, salt, start
from tests.support.jobs import LEASE, claim
from tests.support.journals import NOW, rows


def test_a_lease_keeps_all_others_away_until_it_runs_out(engine: Engine) -> None:
    job = claim_one(engine)
    assert claim(engine, now=NOW + LEASE - 0.001) == []
    (taken,) = claim(engine, now=NOW + LEASE)
    assert (taken.id, taken.lease) == (job.id, job.lease + 1)


@KINDS
def test_what_the_holder_of_the_lease_writes_is_recorded_with_its_transition(engine: Engine, kind: Kind) -> None:
    job = claim_one(engine)
    change = kind(job)
    assert apply(engine, change) == [True]
    (row,) = rows(engine, jobs)
    assert row["state"] == change.state
    assert row["lease_until"] < NOW
    assert {name: row[name] for name in change.values} == change.values
    log = [(each["from_state"], each["to_state"], each["reason"]) for each in rows(engine, transitions)]
    assert log[1:] == ([(WAITING, change.state, change.reason)] if kind is not salt else [])


@KINDS
@pytest.mark.parametrize("other", [None, start, postpone, doubt, salt, die])
def test_what_a_late_worker_writes_changes_nothing(engine: Engine, kind: Kind, other: Kind | None) -> None:
    late = claim_one(engine)
    (taken,) = claim(engine, now=NOW + LEASE)
    if other is not None:
        assert apply(engine, other(taken)) == [True]
    before = rows(engine, jobs), rows(engine, transitions)
    assert apply(engine, kind(late)) == [False]
    assert (rows(engine, jobs), rows(engine, transitions)) == before


@KINDS
@pytest.mark.parametrize("first", [start, die])
def test_a_second_answer_under_the_same_lease_changes_nothing(engine: Engine, first: Kind, kind: Kind) -> None:
    job = claim_one(engine)
    assert apply(engine, first(job)) == [True]
    before = rows(engine, jobs), rows(engine, transitions)
    assert apply(engine, kind(job)) == [False]
    assert (rows(engine, jobs), rows(engine, transitions)) == before


@KINDS
def test_what_a_late_worker_writes_after_a_revival_changes_nothing(engine: Engine, kind: Kind) -> None:
    late = claim_one(engine)
    (taken,) = claim(engine, now=NOW + LEASE)
    apply(engine, die(taken))
    Records(engine).retry(None, now=NOW)
    before = rows(engine, jobs)
    assert apply(engine, kind(late)) == [False]
    assert rows(engine, jobs) == before


def test_a_renewed_lease_lasts_longer(engine: Engine) -> None:
    job = claim_one(engine)
    Jobs(engine).renew([job], until=NOW + 25)
    assert claim(engine, now=NOW + 24) == []
    assert len(claim(engine, now=NOW + 25)) == 1


def test_a_released_lease_can_be_had_at_once(engine: Engine) -> None:
    job = claim_one(engine)
    Jobs(engine).release([job])
    (again,) = claim(engine)
    assert (again.id, again.attempts) == (job.id, 0)


def test_a_late_worker_can_neither_renew_nor_release(engine: Engine) -> None:
    late = claim_one(engine)
    claim(engine, now=NOW + LEASE)
    before = rows(engine, jobs)
    Jobs(engine).renew([late], until=NOW + 1_000)
    Jobs(engine).release([late])
    assert rows(engine, jobs) == before


@KINDS
def test_a_renewal_that_comes_after_the_result_changes_nothing(engine: Engine, kind: Kind) -> None:
    job = claim_one(engine)
    apply(engine, kind(job))
    before = rows(engine, jobs)
    Jobs(engine).renew([job], until=NOW + LEASE)
    assert rows(engine, jobs) == before
