"""From run to outcome, against an API server at the wire: what is recorded of how a run ended."""

from __future__ import annotations

import pytest

from receiver.core.outcomes import DELETED, FAILED, SUCCEEDED
from receiver.journal.schema import FINISHED, STARTED, transitions
from tests.support.api_server import Fault
from tests.support.following import Bench, ended, failed_taskrun
from tests.support.journals import NOW, rows
from tests.support.watch_server import ENDED, LIST, TASKRUNS, WATCH


@pytest.mark.parametrize(("good", "result"), [(True, SUCCEEDED), (False, FAILED)])
def test_the_outcome_of_a_run_is_recorded_as_soon_as_the_watch_tells_it(bench: Bench, good: bool, result: str) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(ended(run, good=good, reason="Because", message="Words"))
    assert bench.outcome(run) == (result, "Because", None)
    job = bench.job(run)
    assert (job["message"], job["finished_at"]) == ("Words", NOW + 5)
    steps = [(row["from_state"], row["to_state"], row["reason"]) for row in rows(bench.engine, transitions)]
    assert steps[-1] == (STARTED, FINISHED, "Because")
    bench.wait_reported([result])
    assert (bench.server.count(LIST), bench.server.count(WATCH)) == (1, 1)


def test_a_run_that_is_not_done_has_no_outcome(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(
        {**run, "status": {"conditions": [{"type": "Succeeded", "status": "Unknown", "reason": "Running"}]}}
    )
    bench.pass_by()
    bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED


def test_a_failed_run_is_recorded_with_the_task_that_failed_in_it_and_not_in_another(bench: Bench) -> None:
    other, run = bench.run("other"), bench.run("1")
    bench.server.taskruns = [failed_taskrun(other, "checkout"), failed_taskrun(run, "test-backend")]
    bench.start()
    bench.server.put(ended(run, good=False))
    assert bench.outcome(run) == (FAILED, "Failed", "test-backend (Failed)")


def test_a_run_that_failed_before_its_first_task_is_asked_for_none(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    refused = ended(run, good=False, reason="CouldntGetPipeline")
    del refused["status"]["childReferences"]
    bench.server.put(refused)
    assert bench.outcome(run) == (FAILED, "CouldntGetPipeline", None)
    assert bench.server.count(TASKRUNS) == 0


def test_a_right_to_see_tasks_that_is_missing_costs_the_task_and_not_the_outcome(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.faults[TASKRUNS].append(Fault(403, "taskruns is forbidden"))
    bench.server.put(ended(run, good=False))
    assert bench.outcome(run) == (FAILED, "Failed", None)


@pytest.mark.parametrize("fault", [Fault(), Fault(503, "not ready"), Fault(429, "slow down"), Fault(410, "expired")])
def test_an_api_server_that_is_away_when_the_task_is_asked_for_costs_neither_task_nor_outcome(
    bench: Bench, fault: Fault
) -> None:
    run = bench.run("1")
    bench.server.taskruns = [failed_taskrun(run, "test-backend")]
    bench.start()
    bench.server.faults[TASKRUNS].extend([fault] * 3)
    bench.server.put(ended(run, good=False))
    assert bench.outcome(run) == (FAILED, "Failed", "test-backend (Failed)")
    bench.wait_reported([FAILED])


def test_a_run_that_is_deleted_before_its_end_is_recorded_as_deleted(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.delete(run["metadata"]["name"])
    assert bench.outcome(run) == (DELETED, "Deleted", None)
    bench.wait_reported([DELETED])


def test_a_run_that_is_deleted_after_its_end_keeps_its_outcome(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    with bench.server.unseen(ENDED):
        bench.server.put(ended(run))
        bench.server.delete(run["metadata"]["name"])
    assert bench.outcome(run) == (SUCCEEDED, "Succeeded", None)


def test_a_run_that_was_deleted_while_nobody_watched_is_recorded_as_deleted_by_the_list(bench: Bench) -> None:
    run = bench.run("1")
    bench.server.delete(run["metadata"]["name"])
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "Deleted", None)


def test_a_run_of_a_trigger_that_is_no_longer_configured_is_let_go(bench: Bench) -> None:
    run = bench.run("1", trigger="removed")
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "TriggerRemoved", None)
