"""How long a job is tried before it is given up."""

from __future__ import annotations

import pytest

from receiver.journal.changes import IN_DOUBT
from receiver.journal.queries import Records
from receiver.journal.schema import DEAD, STARTED, WAITING
from tests.support.api_server import Fault
from tests.support.dispatching import DAY, Bench, trigger
from tests.support.journals import NOW, delivery, take


def test_a_job_that_cannot_start_for_days_is_given_up_with_the_last_problem(bench: Bench) -> None:
    take(bench.engine, delivery())
    for passed in (0.0, 3 * DAY - 1):
        bench.now += passed
        bench.server.faults.append(Fault(429, "slow down"))
        assert bench.run()["state"] == WAITING
    bench.now += 2 * DAY
    bench.server.faults.append(Fault(503, "still away"))
    job = bench.run()
    assert (job["state"], job["reason"]) == (DEAD, "given-up")
    assert "still away" in job["message"]
    # A 503 may have made the run: should the job live again, that counts.
    assert job["lease_until"] > 0


def test_a_job_at_which_the_receiver_fails_is_put_off_for_ever_longer_and_given_up_in_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd")

    take(bench.engine, delivery("sick"))
    monkeypatch.setattr(bench.cluster, "create_run", fail)
    rule = trigger(max_active=1)
    job = bench.run(rule)
    for attempt in range(1, 8):
        assert (job["state"], job["attempts"], job["lease_until"]) == (WAITING, attempt, IN_DOUBT)
        assert job["due_at"] >= bench.now + 0.1 * 2 ** (attempt - 1)
        assert "ValueError('odd')" in job["message"]
        bench.now = job["due_at"]
        job = bench.run(rule)
    bench.now += 4 * DAY
    job = bench.run(rule)
    assert (job["state"], job["reason"], job["lease_until"]) == (DEAD, "given-up", IN_DOUBT)


def test_a_job_that_waited_for_its_turn_for_days_is_given_up_only_days_after_it_first_failed(bench: Bench) -> None:
    take(bench.engine, delivery())
    bench.now += 30 * DAY
    first = bench.now
    for passed in (0.0, 2.9 * DAY):
        bench.now = first + passed
        bench.server.faults.append(Fault(429, "slow down"))
        assert bench.run()["state"] == WAITING
    bench.now = first + 3 * DAY
    bench.server.faults.append(Fault(429, "slow down"))
    job = bench.run()
    assert (job["state"], job["reason"]) == (DEAD, "given-up")
    assert job["message"].startswith("after 3.0 days")


def test_a_job_that_lives_again_has_all_its_patience_again(bench: Bench) -> None:
    take(bench.engine, delivery())
    for passed in (0.0, 4 * DAY):
        bench.now = NOW + passed
        bench.server.faults.append(Fault(429, "slow down"))
        job = bench.run()
    assert job["state"] == DEAD
    bench.now += 1
    assert Records(bench.engine).retry(None, now=bench.now) == 1
    for passed in (0.0, 2.9 * DAY):
        bench.now += passed
        bench.server.faults.append(Fault(429, "slow down"))
        assert bench.run()["state"] == WAITING


def test_many_failed_attempts_do_not_use_up_a_jobs_patience(bench: Bench) -> None:
    take(bench.engine, delivery())
    for _ in range(300):
        bench.server.faults.append(Fault(429, "slow down"))
        job = bench.run()
        bench.now = job["due_at"]
    assert (job["state"], job["attempts"]) == (WAITING, 300)
    assert bench.run()["state"] == STARTED
