"""Where journal and cluster contradict each other: what is set right, and what is reported."""

from __future__ import annotations

import pytest

from receiver.core.outcomes import FAILED, SUCCEEDED
from receiver.journal.schema import transitions
from tests.support.following import NEVER_SECONDS, Bench, ended, failed_taskrun, forge_finished
from tests.support.journals import REPOSITORY, TRIGGER, rows, run_sql
from tests.support.waiting import wait_until
from tests.support.watch_server import LIST


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("by", ["watch", "list"])
def test_what_the_journal_says_against_the_live_run_is_set_right(
    bench: Bench, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    run = bench.run("1")
    bench.server.taskruns = [failed_taskrun(run, "test-backend")]
    if by == "watch":
        bench.start()
    forge_finished(bench, run, SUCCEEDED)
    bench.server.put(ended(run, good=False))
    if by == "list":
        bench.run("another that has begun")
        bench.follower.reconcile()
    wait_until(lambda: bench.job(run)["failed_task"], what="the truth")
    assert bench.outcome(run) == (FAILED, "Failed", "test-backend (Failed)")
    assert "journal contradicts the cluster and is set right" in caplog.messages
    bench.wait_reported([FAILED])


def test_what_the_journal_says_against_the_cluster_is_set_right_while_no_run_is_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.run("1")
    bench.server.put(ended(run, good=False))
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == FAILED
    forge_finished(bench, run, SUCCEEDED)
    lists = bench.server.count(LIST)
    for _ in range(3):
        bench.follower.reconcile()
    # Just now it was listed.
    assert bench.server.count(LIST) == lists
    monkeypatch.setattr("receiver.work.follow._IDLE_SECONDS", 0.0)
    bench.follower.reconcile()
    assert bench.server.count(LIST) == lists + 1
    assert bench.job(run)["result"] == FAILED


@pytest.mark.usefixtures("impatient")
def test_the_lines_about_an_outcome_say_of_which_push_and_which_run_it_is(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = bench.run("1")
    bench.server.put(ended(run, good=False))
    bench.follower.reconcile()
    forge_finished(bench, run, SUCCEEDED)
    bench.run("another that has begun")
    bench.follower.reconcile()
    job = bench.job(run)
    said = {
        "delivery": job["guid"],
        "trigger": TRIGGER,
        "repository": REPOSITORY,
        "ref": job["ref"],
        "sha": job["head_sha"],
    }
    said |= {"run": run["metadata"]["name"], "result": FAILED}
    wrong = "journal contradicts the cluster and is set right"
    lines = [vars(record) for record in caplog.records if record.message in ("run ended", wrong)]
    assert [line["message"] for line in lines] == ["run ended", wrong, "run ended"]
    assert [{field: line[field] for field in said} for line in lines] == [said] * 3


@pytest.mark.usefixtures("impatient")
def test_an_outcome_that_the_journal_has_right_is_left_alone(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(ended(run))
    bench.outcome(run)
    before = rows(bench.engine, transitions)
    bench.server.put({**ended(run), "touched": True})
    bench.server.delete(run["metadata"]["name"])
    bench.pass_by()
    of_run = [row for row in rows(bench.engine, transitions) if row["job_key"] == bench.job(run)["job_key"]]
    assert of_run == [row for row in before if row["job_key"] == bench.job(run)["job_key"]]


@pytest.mark.parametrize("by", ["watch", "list"])
def test_a_row_that_the_receiver_did_not_write_is_reported_and_nothing_is_recorded_from_then_on(
    bench: Bench, by: str
) -> None:
    run, other = bench.run("1"), bench.run("2")
    run_sql(bench.engine, "UPDATE jobs SET trigger = x'00' WHERE run_uid = 'uid-2'")
    before = rows(bench.engine, transitions)
    bench.start(relist_seconds=0.05 if by == "list" else NEVER_SECONDS)
    if by == "watch":
        bench.server.put(ended(run))
    wait_until(lambda: bench.tampered, what="the report")
    assert "did not write" in str(bench.tampered[0])
    bench.server.put(ended(other))
    bench.stop()
    assert rows(bench.engine, transitions) == before
