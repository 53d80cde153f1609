"""Leases and changes: who may write what, and what a write that comes too late does."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from sqlalchemy import Engine, update

from receiver.errors import JournalError
from receiver.journal.changes import Change, Job, died, finished, postponed, salted, started
from receiver.journal.intake import Wanted
from receiver.journal.jobs import Jobs
from receiver.journal.queries import Records
from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING, jobs, pushes, revivals, transitions
from receiver.journal.turns import DEAD_IN_DOUBT_SECONDS
from tests.support.journals import NOW, count, delivery, rows, run_sql, take
from tests.support.turns import flooded, play, starving

LEASE = 10.0


def claim(engine: Engine, *, now: float = NOW, limit: int = 100) -> list[Job]:
    return Jobs(engine).claim(now=now, limit=limit, lease_seconds=LEASE)


def claim_one(engine: Engine) -> Job:
    take(engine, delivery())
    (job,) = claim(engine)
    return job


def apply(engine: Engine, *changes: Change) -> list[bool]:
    return Jobs(engine).apply(changes)


def start(job: Job) -> Change:
    return started(job, run_name="striv-x", run_uid="u", at=NOW)


def postpone(job: Job) -> Change:
    return postponed(job, due_at=NOW + 30, reason="HTTP 429", at=NOW, counts=True, in_doubt=False)


def doubt(job: Job) -> Change:
    return postponed(job, due_at=NOW + 30, reason="HTTP 504", at=NOW, counts=True, in_doubt=True)


def salt(job: Job) -> Change:
    return salted(job, at=NOW)


def die(job: Job) -> Change:
    return died(job, reason="refused", message="HTTP 403", at=NOW)


KINDS = pytest.mark.parametrize("kind", [start, postpone, doubt, salt, die])
Kind = Callable[[Job], Change]


def test_jobs_are_claimed_in_the_order_in_which_they_are_due_and_came(engine: Engine) -> None:
    take(engine, delivery("late", now=NOW - 1), delivery("first", now=NOW - 3), delivery("second", now=NOW - 3))
    take(engine, delivery("future", now=NOW + 1))
    heads = {delivery(seed).push.head_sha: seed for seed in ("late", "first", "second", "future")}  # type: ignore[union-attr]  # each of them is a push
    one = claim(engine, limit=2)
    rest = claim(engine)
    assert [[heads[job.head_sha] for job in part] for part in (one, rest)] == [["first", "second"], ["late"]]


def test_a_claimed_job_carries_what_was_stored(engine: Engine) -> None:
    new = delivery(id="g")
    take(engine, new)
    (job,) = claim(engine)
    assert (job.payload, job.guid, job.trigger, job.generation) == (new.payload, "g", "striv", 1)
    assert (job.lease, job.salt, job.attempts, job.waiting_since) == (1, 0, 0, NOW)
    assert (job.repository, job.ref) == ("bittrance/striv", "refs/heads/main")


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


UNSTORABLE, STORED = "a\0b\ud800c\U0001f680", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\U0001f680"


def test_words_that_no_database_takes_cost_no_change_and_no_other(engine: Engine) -> None:
    """One that fails fails all of its transaction, and comes again with the next."""
    assert_words_are_stored(engine, engine)


def assert_words_are_stored(serve: Engine, engine: Engine) -> None:
    take(serve, delivery("1"), delivery("2"), delivery("3"))
    one, two, three = claim(engine)
    late = postponed(one, due_at=NOW, reason=UNSTORABLE, at=NOW, counts=True, in_doubt=False)
    assert apply(engine, late, died(two, reason="refused", message=UNSTORABLE, at=NOW), start(three)) == [True] * 3
    (known,) = Jobs(engine).started()
    outcome = finished(known, result="x", reason=UNSTORABLE, message=UNSTORABLE, failed_task=UNSTORABLE, at=NOW)
    assert apply(engine, outcome) == [True]
    assert [row["message"] for row in rows(engine, jobs)] == [STORED] * 3
    assert [row["reason"] for row in rows(engine, transitions)][3:] == [STORED, "refused", "created", STORED]


def test_one_failing_change_takes_the_whole_transaction_back(engine: Engine) -> None:
    take(engine, delivery("1"), delivery("2"))
    one, two = claim(engine)
    with pytest.raises(JournalError):
        apply(engine, start(one), dataclasses.replace(start(two), values={"no_column": 1}))
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


def test_branches_of_a_bounded_trigger_take_turns_one_place_at_a_time(engine: Engine) -> None:
    """All pushes of one branch came first; whoever finishes makes room for the branch that was served longest ago."""
    for branch in "abc":
        for number in range(3):
            take(engine, delivery(f"{branch}{number}", branch=branch, now=NOW + number))
    queue = Jobs(engine)
    turns = []
    for second in range(9):
        (job,) = queue.claim(now=NOW + 10 + second, limit=10, lease_seconds=5, max_active={"striv": 1})
        turns.append(job.ref.removeprefix("refs/heads/"))
        # While it is in hand, nobody else gets the only place.
        assert queue.claim(now=NOW + 10 + second, limit=10, lease_seconds=5, max_active={"striv": 1}) == []
        apply(engine, started(job, run_name=f"run-{second}", run_uid=f"uid-{second}", at=NOW + 10 + second))
        (running,) = queue.started()
        apply(
            engine, finished(running, result="succeeded", reason="", message="", failed_task=None, at=NOW + 10 + second)
        )
    assert turns == ["a", "b", "c"] * 3


def test_a_branch_with_a_job_in_hand_comes_after_those_without(engine: Engine) -> None:
    for branch in "ab":
        for number in range(2):
            take(engine, delivery(f"{branch}{number}", branch=branch))
    queue = Jobs(engine)
    claimed = [
        job.ref.removeprefix("refs/heads/")
        for most in (1, 2, 3, 4)
        for job in queue.claim(now=NOW, limit=10, lease_seconds=5, max_active={"striv": most})
    ]
    assert claimed == ["a", "b", "a", "b"]


@pytest.mark.parametrize("most", [1, 2])
def test_a_branch_has_its_turn_though_there_is_a_new_branch_for_every_place(engine: Engine, most: int) -> None:
    turns = play(engine, engine, starving(most=most, minutes=40), minutes=40, most=most)
    # What comes is more than there are places, so all wait ever longer, but each in its turn.
    mains = [minute for minute, branches in enumerate(turns) if "main" in branches]
    assert len(mains) >= 6
    assert max(later - earlier for earlier, later in pairwise(mains)) <= 8


@pytest.mark.parametrize("most", [1, 3])
def test_a_branch_with_hundreds_of_pushes_delays_no_other(engine: Engine, most: int) -> None:
    turns = play(engine, engine, flooded(minutes=30), minutes=30, most=most)
    assert all(f"other-{minute}" in turns[minute] for minute in range(1, 30, 3))
    assert all(len(branches) == most for branches in turns)


def test_a_branch_that_was_quiet_for_long_does_not_overtake_what_waits(engine: Engine) -> None:
    pushes = {0: ["quiet"], 5: ["a", "b", "c"], 6: ["quiet"]}
    assert play(engine, engine, pushes, minutes=9)[5:] == [["a"], ["b"], ["c"], ["quiet"]]


def test_a_clock_that_was_set_back_puts_no_branch_behind_the_new_ones(engine: Engine) -> None:
    play(engine, engine, {0: ["main"]}, minutes=1)
    run_sql(engine, "UPDATE jobs SET started_at = started_at + 86400, finished_at = finished_at + 86400")
    new = [f"new-{number}" for number in range(5)]
    pushes = {2: ["main", *new], 3: ["later"]}
    assert play(engine, engine, pushes, minutes=9)[2:] == [["main"], *([name] for name in new), ["later"]]


def test_a_job_in_doubt_does_not_put_its_branch_behind_the_new_ones(engine: Engine) -> None:
    take(engine, delivery("doubtful", branch="main", now=NOW))
    apply(engine, doubt(claim(engine)[0]))
    take(engine, delivery("second", branch="main", now=NOW + 1))
    take(engine, delivery("new", branch="new", now=NOW + 2))
    (job,) = Jobs(engine).claim(now=NOW + 3, limit=10, lease_seconds=5, max_active={"striv": 2})
    assert job.ref == "refs/heads/main"


@pytest.mark.parametrize(
    ("seconds", "claimable"), [(1.0, 0), (DEAD_IN_DOUBT_SECONDS - 1, 0), (DEAD_IN_DOUBT_SECONDS + 1, 1)]
)
def test_a_dead_job_whose_run_may_exist_counts_as_active_for_as_long_as_a_run_may_last(
    engine: Engine, seconds: float, claimable: int
) -> None:
    take(engine, delivery("1", now=NOW - 86_400), delivery("2", now=NOW))
    (job,) = claim(engine, limit=1)
    apply(engine, died(job, reason="given-up", message="HTTP 503", at=NOW, in_doubt=True))
    now = NOW + seconds
    assert len(Jobs(engine).claim(now=now, limit=9, lease_seconds=5, max_active={"striv": 1})) == claimable


def test_a_dead_job_that_was_refused_takes_nobodys_place(engine: Engine) -> None:
    apply(engine, die(claim_one(engine)))
    take(engine, delivery("2"))
    assert len(Jobs(engine).claim(now=NOW + 1, limit=9, lease_seconds=5, max_active={"striv": 1})) == 1


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
