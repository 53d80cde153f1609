"""No run is believed that is not the job's own."""

from __future__ import annotations

import pytest

from receiver.core.outcomes import DELETED, SUCCEEDED
from receiver.core.pipelinerun import KEY
from receiver.journal.schema import STARTED
from tests.support.following import Bench, ended, with_metadata
from tests.support.journals import run_sql
from tests.support.waiting import wait_until
from tests.support.watch_server import GET


def test_a_run_that_only_lost_its_label_lives_on_and_its_outcome_is_found_by_name(bench: Bench) -> None:
    """A watch that selects by a label is told of such a run as if it were deleted."""
    run = bench.run("1")
    bench.start()
    bare = with_metadata(run, labels={})
    bench.server.put(bare)
    wait_until(lambda: bench.server.count(GET) == 1, what="a look at the run itself")
    bench.pass_by()
    assert bench.job(run)["state"] == STARTED
    bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED
    bench.server.put(ended(bare))
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == SUCCEEDED


def test_a_run_that_another_has_replaced_under_its_name_is_recorded_as_deleted(bench: Bench) -> None:
    run = bench.run("1")
    bench.server.put(ended(with_metadata(run, uid="another")))
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "Deleted", None)


@pytest.mark.parametrize("key", ["ab" * 32, "no key", "\N{GREEK SMALL LETTER ALPHA}", "", None])
def test_a_run_of_the_right_uid_without_the_jobs_key_is_not_the_jobs(bench: Bench, key: str | None) -> None:
    run = bench.run("1")
    bench.start()
    annotations = None if key is None else {KEY: key}
    bench.server.put(ended(with_metadata(run, annotations=annotations)))
    bench.pass_by()
    assert bench.job(run)["state"] == STARTED
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "NotOurs", None)


def test_a_job_that_points_at_the_run_of_another_does_not_get_its_outcome(bench: Bench) -> None:
    forged, run = bench.run("1"), bench.run("2")
    bench.server.delete(forged["metadata"]["name"])
    run_sql(bench.engine, "UPDATE jobs SET run_uid = 'uid-2' WHERE run_uid = 'uid-1'")
    bench.server.put(ended(run))
    bench.start(relist_seconds=0.05)
    assert bench.outcome(run)[0] == SUCCEEDED
    assert bench.outcome(forged)[0] == DELETED


@pytest.mark.usefixtures("impatient")
def test_ended_runs_that_belong_to_no_job_change_nothing(bench: Bench) -> None:
    run = bench.run("1")
    for number, carried in enumerate(({KEY: "ab" * 32}, {KEY: "no key"}, {}, None)):
        metadata = {"name": f"foreign-{number}", "uid": f"foreign-{number}", "annotations": carried}
        bench.server.put(ended(with_metadata(run, **metadata)))
    bench.start()
    bench.pass_by()
    bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("good", [True, False])
def test_a_copy_of_a_run_changes_nothing_of_the_runs_outcome(
    bench: Bench, caplog: pytest.LogCaptureFixture, good: bool
) -> None:
    """`Rerun` in the Tekton Dashboard copies labels and annotations, the key too (its packages/api, rerunPipelineRun)."""
    run = bench.run("1")
    bench.start()
    bench.server.put(ended(run, good=good))
    result, _, _ = bench.outcome(run)
    copy = with_metadata(run, name=f"{run['metadata']['name']}-r-x7k2p", uid="copy")
    bench.server.put(ended(copy, good=not good))
    bench.pass_by()
    bench.run("another that has begun")
    bench.follower.reconcile()
    assert bench.job(run)["result"] == result
    assert "journal contradicts the cluster and is set right" not in caplog.messages
