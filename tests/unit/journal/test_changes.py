"""Changes and the log of transitions: each is stored whole, once, or not at all."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import Engine, update

from receiver.errors import JournalError
from receiver.journal.changes import finished, postponed
from receiver.journal.jobs import Jobs
from receiver.journal.queries import Records
from receiver.journal.rows import Wanted
from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING, jobs, revivals, transitions
from tests.support.changes import Kind, apply, assert_words_are_stored, claim_one, die, postpone, salt, start
from tests.support.jobs import claim
from tests.support.journals import NOW, count, delivery, rows, run_sql, take


def test_an_outcome_is_recorded_once(engine: Engine) -> None:
    apply(engine, start(claim_one(engine)))
    (job,) = Jobs(engine).started()
    assert (job.run_name, job.run_uid) == ("striv-x", "u")
    good = finished(job, result="succeeded", reason="Completed", message="done", failed_task=None, at=NOW + 5)
    bad = finished(job, result="failed", reason="Failed", message="no", failed_task="test", at=NOW + 6)
    assert apply(engine, good, bad) == [True, False]
    (row,) = rows(engine, jobs)
    assert (row["state"], row["result"], row["finished_at"], row["failed_task"]) == (
        FINISHED,
        "succeeded",
        NOW + 5,
        None,
    )
    assert Jobs(engine).started() == []


def test_an_outcome_of_a_job_that_waits_or_is_dead_changes_nothing(engine: Engine) -> None:
    job = claim_one(engine)
    apply(engine, start(job))
    (known,) = Jobs(engine).started()
    outcome = finished(known, result="failed", reason="x", message="", failed_task=None, at=NOW)
    for state in (WAITING, DEAD):
        with engine.begin() as connection:
            connection.execute(update(jobs).values(state=state))
        assert apply(engine, outcome) == [False]


def test_many_changes_share_one_transaction_and_each_has_its_own_answer(engine: Engine) -> None:
    take(engine, delivery("1"), delivery("2"))
    one, two = claim(engine)
    assert apply(engine, start(one), die(one), die(two), start(two)) == [True, False, True, False]
    assert [row["state"] for row in rows(engine, jobs)] == [STARTED, DEAD]


@pytest.mark.parametrize("kind", [start, die])
def test_a_change_and_its_transition_are_stored_both_or_neither(engine: Engine, kind: Kind) -> None:
    job = claim_one(engine)
    before = rows(engine, jobs)
    run_sql(engine, "ALTER TABLE transitions RENAME TO hidden")
    with pytest.raises(JournalError, match="transitions"):
        apply(engine, kind(job))
    run_sql(engine, "ALTER TABLE hidden RENAME TO transitions")
    assert rows(engine, jobs) == before
    assert count(engine, transitions) == 1
    assert apply(engine, kind(job)) == [True]
    assert count(engine, transitions) == 2


def test_a_revival_and_its_transition_are_stored_both_or_neither(engine: Engine) -> None:
    apply(engine, die(claim_one(engine)))
    take(engine, delivery())
    run_sql(engine, "ALTER TABLE transitions RENAME TO hidden")
    with pytest.raises(JournalError):
        claim(engine)
    with pytest.raises(JournalError):
        Records(engine).retry(None, now=NOW)
    run_sql(engine, "ALTER TABLE hidden RENAME TO transitions")
    assert [row["state"] for row in rows(engine, jobs)] == [DEAD]
    assert count(engine, revivals) == 1
    assert len(claim(engine)) == 1


def test_words_that_no_database_takes_cost_no_change_and_no_other(engine: Engine) -> None:
    """One that fails fails all of its transaction, and comes again with the next."""
    assert_words_are_stored(engine, engine)


def test_one_failing_change_takes_the_whole_transaction_back(engine: Engine) -> None:
    take(engine, delivery("1"), delivery("2"))
    one, two = claim(engine)
    with pytest.raises(JournalError):
        apply(engine, start(one), dataclasses.replace(start(two), values={"trigger": None}))
    assert [row["state"] for row in rows(engine, jobs)] == [WAITING, WAITING]
    assert count(engine, transitions) == 2


def test_a_whole_life_only_appends_to_the_log_of_transitions(engine: Engine) -> None:
    run_sql(
        engine,
        "CREATE TRIGGER no_update BEFORE UPDATE ON transitions BEGIN SELECT RAISE(FAIL, 'changed'); END",
        "CREATE TRIGGER no_delete BEFORE DELETE ON transitions BEGIN SELECT RAISE(FAIL, 'deleted'); END",
    )
    new = delivery(id="abcdef")
    take(engine, new)
    for kind, now in ((postpone, NOW), (salt, NOW + 30), (die, NOW + 30)):
        (job,) = claim(engine, now=now)
        assert apply(engine, kind(job)) == [True]
    take(engine, new)
    (job,) = claim(engine, now=NOW + 30)
    assert apply(engine, die(job)) == [True]
    assert Records(engine).retry("abcdef", now=NOW + 30) == 1
    (job,) = claim(engine, now=NOW + 30)
    assert apply(engine, start(job)) == [True]
    (known,) = Jobs(engine).started()
    assert apply(engine, finished(known, result="failed", reason="R", message="", failed_task=None, at=NOW)) == [True]
    assert new.push is not None
    Records(engine).replay("abcdef", new.push, [Wanted("striv", "striv-")], now=NOW + 40)
    assert [(row["to_state"], row["reason"]) for row in rows(engine, transitions)] == [
        (WAITING, "matched"),
        (WAITING, "HTTP 429"),
        (DEAD, "refused"),
        (WAITING, "redelivered"),
        (DEAD, "refused"),
        (WAITING, "retried by hand"),
        (STARTED, "created"),
        (FINISHED, "R"),
        (WAITING, "replayed by hand"),
    ]


def test_the_log_tells_since_when_a_job_fails_and_not_how_often(engine: Engine) -> None:
    new = delivery(now=NOW - 86_400)
    take(engine, new)
    queue = Jobs(engine)
    for life in (0.0, 1_000.0):
        (job,) = claim(engine, now=NOW + life)
        assert queue.failing_since(job) is None
        apply(engine, postponed(job, due_at=NOW, reason="HTTP 503", at=NOW + life, counts=False, in_doubt=False))
        for later in (31.0, 62.0):
            (job,) = claim(engine, now=NOW + life + later)
            assert queue.failing_since(job) == NOW + life
            apply(
                engine,
                postponed(job, due_at=NOW, reason="HTTP 429", at=NOW + life + later, counts=True, in_doubt=False),
            )
        (job,) = claim(engine, now=NOW + life + 100)
        apply(engine, die(job))
        take(engine, new)
    steps = [(row["to_state"], row["reason"]) for row in rows(engine, transitions)]
    put_off = [(WAITING, "HTTP 503"), (DEAD, "refused")]
    assert steps == [(WAITING, "matched"), *put_off, (WAITING, "redelivered"), *put_off]
