"""One job that fails by itself: it is told from an outage, and costs the others next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from receiver.errors import OutageError
from receiver.journal.changes import Change
from receiver.journal.jobs import Jobs
from receiver.journal.schema import STARTED, WAITING, jobs
from receiver.journal.writer import BatchWriter
from receiver.work.suspects import Suspects
from tests.support.dispatching import trigger
from tests.support.journals import NOW, delivery, opened, rows, take
from tests.support.simulation import SimulatedCluster, SimulatedWorker

SICK = "refs/heads/sick"
TICK_SECONDS = 0.25


class Bench:
    """A worker on a simulated cluster, with a clock that goes on by ticks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = NOW
        self.pushed = 0
        self.cluster = SimulatedCluster()
        queue = Jobs(engine)
        self.recorder: BatchWriter[Change, bool] = BatchWriter(queue.apply)
        self.worker = SimulatedWorker(
            jobs=queue,
            recorder=self.recorder,
            cluster=self.cluster,
            triggers=(trigger(),),
            clock=lambda: self.now,
            concurrency=4,
        )

    def push(self, *branches: str) -> None:
        """Take pushes in."""
        self.pushed += 1
        seeds = [f"{self.pushed} {branch}" for branch in branches]
        pushes = zip(seeds, branches, strict=True)
        take(self.engine, *(delivery(seed, branch=branch, now=self.now) for seed, branch in pushes))

    def go_on(self, seconds: float) -> None:
        """Let time pass and the worker work."""
        for _ in range(int(seconds / TICK_SECONDS)):
            self.now += TICK_SECONDS
            self.worker.dispatcher.step()
            while self.worker.tasks:
                self.worker.steps.move(0)

    def jobs_of(self, *, sick: bool) -> list[dict[str, Any]]:
        return [job for job in rows(self.engine, jobs) if (job["ref"] == SICK) is sick]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with opened(tmp_path) as engine:
        bench = Bench(engine)
        yield bench
        bench.recorder.close()


def test_a_job_that_fails_by_itself_delays_the_others_by_seconds_at_first_and_then_not_at_all(bench: Bench) -> None:
    healthy = [f"healthy-{number}" for number in range(8)]
    bench.cluster.sick.add(SICK)
    bench.push("sick", *healthy)
    bench.go_on(30)
    for _ in range(20):
        bench.push(*healthy)
        bench.go_on(30)
    waits = [job["started_at"] - job["created_at"] for job in bench.jobs_of(sick=False)]
    assert len(waits) == 8 * 21
    # Twice it passes for an outage, which costs whoever comes next a probe or two.
    assert max(waits) <= 4.0
    assert max(waits[8 * 3 :]) <= 2 * TICK_SECONDS
    (sick,) = bench.jobs_of(sick=True)
    assert (sick["state"], bench.worker.dispatcher.availability.is_away) == (WAITING, False)
    assert sick["attempts"] >= 8
    assert bench.cluster.asked[-1_000:].count(SICK) < 90
    # Its own backoff is that of any job that may work later.
    bench.cluster.sick.clear()
    bench.go_on(61)
    assert bench.jobs_of(sick=True)[0]["state"] == STARTED


def test_a_sick_job_whose_request_hangs_does_not_keep_the_others_from_asking(bench: Bench) -> None:
    bench.now -= 60
    bench.worker.dispatcher.availability.lost(OutageError("away"))
    bench.now += 60
    bench.push("sick")
    bench.worker.dispatcher.step()
    bench.worker.steps.move(0)
    assert bench.cluster.asked == [SICK]
    assert bench.worker.tasks == 1
    bench.push("healthy")
    bench.now += 2
    bench.worker.dispatcher.step()
    while bench.worker.tasks > 1:
        bench.worker.steps.move(1)
    assert bench.jobs_of(sick=False)[0]["state"] == STARTED
    assert not bench.worker.dispatcher.availability.is_away


@pytest.mark.parametrize("fault", ["away", "webhook_down"])
def test_two_outages_one_after_the_other_use_up_nobodys_patience(bench: Bench, fault: str) -> None:
    branches = [f"branch-{number}" for number in range(9)]
    for _ in range(2):
        bench.push(*branches)
        setattr(bench.cluster, fault, True)
        bench.go_on(60)
        setattr(bench.cluster, fault, False)
        before = len(bench.cluster.asked)
        while len(bench.cluster.asked) == before:
            bench.go_on(TICK_SECONDS)
    bench.go_on(1)
    assert {(job["state"], job["attempts"]) for job in bench.jobs_of(sick=False)} == {(STARTED, 0)}


def test_a_run_of_an_attempt_that_began_before_a_failure_says_nothing_about_it() -> None:
    suspects = Suspects()
    early = suspects.now()
    for _ in range(5):
        assert not suspects.failed(1)
        suspects.made(since=early)
    for _ in range(2):
        assert not suspects.failed(1)
        suspects.made(since=suspects.now())
    assert suspects.failed(1)


def test_a_job_that_was_answered_begins_anew() -> None:
    suspects = Suspects()
    for _ in range(2):
        assert not suspects.failed(1)
        suspects.made(since=suspects.now())
    suspects.answered(1)
    assert not suspects.failed(1)


def test_what_is_remembered_of_failing_jobs_is_bounded() -> None:
    suspects = Suspects()
    for job_id in range(5_000):
        suspects.failed(job_id)
    suspects.made(since=suspects.now())
    for job_id in range(5_000):
        suspects.failed(job_id)
    suspects.made(since=suspects.now())
    assert sum(suspects.failed(job_id) for job_id in range(5_000)) <= 1_000
