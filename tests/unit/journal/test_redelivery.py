"""What becomes of a delivery that comes again: a duplicate, a revival, or a job for a trigger that is new."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from sqlalchemy import Engine

from receiver.journal.intake import ACCEPTED, DUPLICATE, PRUNED, JobView
from receiver.journal.jobs import Jobs
from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING, deliveries, jobs, pushes, revivals, transitions
from tests.support.jobs import finish_all, kill_all, start_all
from tests.support.journals import NOW, TRIGGER, count, delivery, guid, rows, run_sql, take


@pytest.mark.parametrize("prepare", [None, start_all])
def test_a_redelivery_of_something_in_flight_is_a_duplicate_that_names_the_same_run(
    engine: Engine, prepare: Any
) -> None:
    (first,) = take(engine, new := delivery())
    if prepare:
        prepare(engine)
    (again,) = take(engine, new)
    assert (again.result, again.in_flight) == (DUPLICATE, True)
    assert again.jobs[0].state == (STARTED if prepare else WAITING)
    assert again.jobs[0].run_name == ("striv-x" if prepare else first.jobs[0].run_name)
    assert (count(engine, jobs), count(engine, pushes), count(engine, deliveries)) == (1, 1, 2)


def test_a_redelivery_of_something_done_is_a_duplicate_with_nothing_in_flight(engine: Engine) -> None:
    take(engine, new := delivery())
    finish_all(engine)
    (again,) = take(engine, new)
    assert (again.result, again.in_flight, again.jobs[0].state) == (DUPLICATE, False, FINISHED)
    assert count(engine, jobs) == 1


def test_a_redelivery_of_something_dead_asks_for_its_revival_and_changes_no_row(engine: Engine) -> None:
    take(engine, new := delivery())
    kill_all(engine)
    (again,) = take(engine, dataclasses.replace(new, received_at=NOW + 5))
    assert (again.result, again.in_flight, again.jobs[0].state) == (DUPLICATE, True, WAITING)
    assert rows(engine, jobs)[0]["state"] == DEAD
    (asked,) = rows(engine, revivals)
    assert (asked["job_key"], asked["asked_at"]) == (rows(engine, jobs)[0]["job_key"], NOW + 5)
    (job,) = Jobs(engine).claim(now=NOW + 5, limit=10, lease_seconds=10)
    assert (job.attempts, job.waiting_since) == (0, NOW + 5)
    assert count(engine, revivals) == 0
    assert [(row["from_state"], row["to_state"]) for row in rows(engine, transitions)] == [
        ("", WAITING),
        (WAITING, DEAD),
        (DEAD, WAITING),
    ]


def test_a_dead_job_that_is_redelivered_many_times_lives_once(engine: Engine) -> None:
    take(engine, new := delivery())
    kill_all(engine)
    take(engine, new, new)
    take(engine, new)
    assert len(Jobs(engine).claim(now=NOW, limit=10, lease_seconds=10)) == 1
    assert count(engine, revivals) == 0


@pytest.mark.parametrize(("room", "claimed"), [(10, {"dead", "waits"}), (1, {"waits"})])
def test_what_was_redelivered_lives_again_however_many_others_wait(
    engine: Engine, room: int, claimed: set[str]
) -> None:
    heads = {}
    for seed in ("dead", "waits"):
        new = delivery(seed, now=NOW - 1)
        take(engine, new)
        if seed == "dead":
            kill_all(engine)
            take(engine, new)
        heads[rows(engine, jobs)[-1]["head_sha"]] = seed
    found = Jobs(engine).claim(now=NOW, limit=room, lease_seconds=10)
    assert {heads[job.head_sha] for job in found} == claimed
    assert [row["state"] for row in rows(engine, jobs)] == [WAITING, WAITING]
    assert count(engine, revivals) == 0


def test_a_push_of_which_only_the_keys_are_left_is_a_duplicate(engine: Engine) -> None:
    (first,) = take(engine, new := delivery())
    run_sql(engine, "DELETE FROM jobs", "DELETE FROM pushes", "DELETE FROM deliveries", "DELETE FROM transitions")
    replayed = delivery(id=guid())
    for captured in (new, replayed):
        (again,) = take(engine, captured)
        assert (again.result, again.in_flight) == (DUPLICATE, False)
        assert again.jobs == (JobView(TRIGGER, first.jobs[0].run_name, PRUNED),)
    assert (count(engine, jobs), count(engine, pushes), count(engine, deliveries)) == (0, 0, 2)


@pytest.mark.parametrize("prepare", [None, finish_all])
def test_a_trigger_that_is_added_later_gets_its_job_from_a_redelivery(engine: Engine, prepare: Any) -> None:
    take(engine, delivery(triggers=("one",)))
    if prepare:
        prepare(engine)
    (receipt,) = take(engine, delivery(triggers=("one", "two")))
    assert (receipt.result, receipt.in_flight) == (ACCEPTED, True)
    assert [job.state for job in receipt.jobs] == [FINISHED if prepare else WAITING, WAITING]
    assert [row["trigger"] for row in rows(engine, jobs)] == ["one", "two"]
    assert count(engine, pushes) == 1


def test_a_trigger_that_is_added_after_the_pruning_brings_the_body_back_for_itself_alone(engine: Engine) -> None:
    take(engine, delivery(triggers=("one",)))
    run_sql(engine, "DELETE FROM jobs", "DELETE FROM pushes")
    (receipt,) = take(engine, delivery(triggers=("one", "two")))
    assert [job.state for job in receipt.jobs] == [PRUNED, WAITING]
    (job,) = Jobs(engine).claim(now=NOW, limit=10, lease_seconds=10)
    assert (job.trigger, job.payload) == ("two", delivery(triggers=("one", "two")).payload)
