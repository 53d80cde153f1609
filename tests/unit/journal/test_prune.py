"""Pruning: what goes first, and that the file gives its pages back."""

from __future__ import annotations

from sqlalchemy import Engine

from receiver.journal.changes import StartedJob, finished, started
from receiver.journal.engine import reading
from receiver.journal.intake import ACCEPTED
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.schema import deliveries
from tests.support.journals import NOW, delivery, ignored, rows, take

YEARS = 3_650.0


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
