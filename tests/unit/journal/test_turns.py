"""The places of a bounded trigger: whose turn it is, and what takes a place."""

from __future__ import annotations

from itertools import pairwise

import pytest
from sqlalchemy import Engine

from receiver.journal.changes import died, finished, started
from receiver.journal.jobs import Jobs
from receiver.journal.turns import DEAD_IN_DOUBT_SECONDS
from tests.support.changes import apply, claim_one, die, doubt
from tests.support.jobs import claim
from tests.support.journals import NOW, delivery, run_sql, take
from tests.support.turns import flooded, play, starving


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
