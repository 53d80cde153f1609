"""Pruning: what goes first, and that the file gives its pages back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from receiver.journal.changes import StartedJob, died, finished, started
from receiver.journal.engine import reading, writing
from receiver.journal.intake import ACCEPTED
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.rows import transition_row
from receiver.journal.schema import DEAD, STARTED, WAITING, deliveries, jobs, transitions
from tests.support.journals import NOW, count, delivery, ignored, rows, take

YEARS = 3_650.0
DAY = 86_400.0


def pages(engine: Engine) -> tuple[int, int]:
    """How many pages the file has, and how many of them are free."""
    with reading(engine) as connection:
        whole = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return whole, connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()


def test_a_pruned_file_gives_its_pages_back(engine: Engine) -> None:
    for start in range(0, 3_000, 250):
        take(engine, *(ignored(f"{start + number:08x}") for number in range(250)))
    before, _ = pages(engine)
    assert prune(engine, Retention(YEARS, 10, YEARS), now=NOW) == 2_990
    after, free = pages(engine)
    assert after < before / 4
    assert free == 0


def test_a_flood_of_ignored_deliveries_drives_out_nothing_that_ran(engine: Engine) -> None:
    take(engine, delivery("1"))
    jobs = Jobs(engine)
    (job,) = jobs.claim(now=NOW, limit=1, lease_seconds=10)
    jobs.apply([started(job, run_name="striv-a", run_uid="u", at=NOW)])
    (running,) = jobs.started()
    assert isinstance(running, StartedJob)
    jobs.apply([finished(running, result="succeeded", reason="", message="", failed_task=None, at=NOW)])
    take(engine, *(ignored(f"{number:08x}") for number in range(50)))
    assert prune(engine, Retention(YEARS, 10, YEARS), now=NOW) == 41
    assert [row["result"] for row in rows(engine, deliveries)].count(ACCEPTED) == 1


def wait(_engine: Engine) -> None:
    """Nobody works."""


def start(engine: Engine) -> None:
    queue = Jobs(engine)
    claimed = queue.claim(now=NOW, limit=10, lease_seconds=10)
    queue.apply([started(job, run_name="striv-a", run_uid="u", at=NOW) for job in claimed])


def bury(engine: Engine) -> None:
    queue = Jobs(engine)
    claimed = queue.claim(now=NOW, limit=10, lease_seconds=10)
    queue.apply([died(job, reason="refused", message="HTTP 403: no", at=NOW) for job in claimed])


@pytest.mark.parametrize(("become", "state"), [(wait, WAITING), (start, STARTED), (bury, DEAD)])
@pytest.mark.parametrize(
    "retention", [Retention(YEARS, 7, YEARS), Retention(1.0, 100_000, YEARS)], ids=["too many", "too old"]
)
def test_of_an_open_push_that_is_redelivered_without_end_the_accepted_and_the_newest_delivery_stay(
    engine: Engine, retention: Retention, become: Callable[[Engine], None], state: str
) -> None:
    take(engine, first := delivery(id="first"))
    become(engine)
    for _ in range(4):
        take(engine, *(dataclasses.replace(delivery(), received_at=NOW + 1) for _ in range(300)))
    take(engine, dataclasses.replace(first, received_at=NOW + 2))
    take(engine, *(ignored(now=NOW + 9 * DAY) for _ in range(5)))
    prune(engine, retention, now=NOW + 2 * DAY)
    kept = [row for row in rows(engine, deliveries) if row["result"] != "ignored"]
    assert [(row["guid"], row["received_at"]) for row in kept] == [("first", NOW), ("first", NOW + 2)]
    assert {row["state"] for row in rows(engine, jobs)} == {state}
    assert count(engine, deliveries) <= 10


def test_what_is_open_is_never_forgotten_however_old_and_many(engine: Engine) -> None:
    take(engine, *(delivery(str(number)) for number in range(30)))
    assert prune(engine, Retention(0.001, 1, YEARS), now=NOW + DAY) == 0
    assert (count(engine, deliveries), count(engine, jobs)) == (30, 30)


def test_the_log_of_a_job_that_dies_and_is_revived_again_and_again_keeps_its_begin_and_its_end(engine: Engine) -> None:
    take(engine, new := delivery())
    for _ in range(300):
        bury(engine)
        take(engine, new)
    before = rows(engine, transitions)
    assert len(before) == 600
    prune(engine, Retention(YEARS, 1_000, YEARS), now=NOW)
    assert rows(engine, transitions) == [before[0], *before[-199:]]
    prune(engine, Retention(YEARS, 1_000, YEARS), now=NOW)
    assert count(engine, transitions) == 200


def test_beginnings_of_a_job_that_somebody_plants_do_not_push_out_its_log(engine: Engine) -> None:
    take(engine, delivery())
    bury(engine)
    (begun, died_row) = rows(engine, transitions)
    with writing(engine) as connection:
        planted = transition_row(begun["job_key"], "", WAITING, "planted", NOW)
        connection.execute(transitions.insert(), [planted] * 500)
    prune(engine, Retention(YEARS, 1_000, YEARS), now=NOW)
    assert rows(engine, transitions) == [begun, died_row]


def test_pruning_gets_through_more_than_it_looks_at_in_one_go(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.journal.prune._LOOK", 7)
    take(engine, *(delivery(str(number)) for number in range(5)), *(ignored() for _ in range(40)))
    assert prune(engine, Retention(YEARS, 10, YEARS), now=NOW) == 35
    assert count(engine, deliveries) == 10
