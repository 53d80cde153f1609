"""Three lines of defence against databases that stay: `finally`, owners, and the Job's own deadline. Each works alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import ENDLESS_BACKEND, Repository
from tests.e2e.support.runs import BATCH, RBAC, RUN_LABEL, TEKTON, Run, Runs
from tests.e2e.support.work import clean_up, folder_of

DEADLINE_SECONDS = 120
"""Of databases that a test sees through to their deadline: more than a run needs to have its tests begin, or to pass."""
PIPELINE_SECONDS = 180
JOB_CLEAN_SECONDS = 45
"""A Job's time to live after its deadline, its pod's end and the collection of what it owned."""


def start_endless(runs: Runs, repository: Repository, **given: Any) -> Run:
    """Start a run whose back-end tests do not end by themselves, and wait until they run."""
    commit = repository.push_commit("endless", files={"test/test_endless.py": ENDLESS_BACKEND})
    run = runs.start(revision=commit, branch="endless", repository_id="1", **given)
    run.wait_for_task("test-backend")
    return run


@contextmanager
def short_deadlines(cluster: Cluster, seconds: int = DEADLINE_SECONDS) -> Iterator[None]:
    """Give the databases' Jobs a deadline that a test can wait for."""

    def shorten(template: Object) -> None:
        template["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] = seconds
        template["spec"]["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] = 5

    with (
        cluster.changed(f"{BATCH}/cronjobs/mysql", shorten),
        cluster.changed(f"{BATCH}/cronjobs/postgres", shorten),
    ):
        yield


def jobs_of(cluster: Cluster, run: Run) -> list[Object]:
    """Return the Jobs of a run's databases."""
    return cluster.items(f"{BATCH}/jobs", selector=f"{RUN_LABEL}={run.uid}")


@pytest.mark.e2e
def test_owners_take_everything_with_them_when_a_run_is_deleted(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    run = start_endless(runs, repository)
    assert len(jobs_of(cluster, run)) == 2

    run.delete()

    run.expect_clean(finally_ran=False)
    assert cluster.get(run.path) is None


@pytest.mark.e2e_full
def test_the_hourly_clean_up_takes_the_work_of_a_run_that_was_deleted(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    run = start_endless(runs, repository)
    run.delete()
    run.expect_clean(finally_ran=False)
    assert "source" in (folder_of(run.uid) or [])

    clean_up(cluster, "e2e-prune-work")

    assert folder_of(run.uid) is None


@pytest.mark.e2e_full
def test_finally_cleans_up_after_a_cancelled_run(cluster: Cluster, runs: Runs, repository: Repository) -> None:
    run = start_endless(runs, repository)
    assert len(jobs_of(cluster, run)) == 2

    run.cancel("CancelledRunFinally")

    assert run.expect("False")["reason"] == "Cancelled"
    assert run.task_condition("delete-test-dependencies")["status"] == "True"
    run.expect_clean()


@pytest.mark.e2e_full
def test_finally_cleans_up_when_databases_are_still_starting(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    commit = repository.push_commit("kubernetes")
    run = runs.start(revision=commit, branch="kubernetes")
    eventually(lambda: jobs_of(cluster, run), what="a database is created", seconds=60, every=0.05)

    run.cancel("CancelledRunFinally")

    assert run.expect("False")["reason"] == "Cancelled"
    run.expect_clean()


@pytest.mark.e2e_full
def test_finally_cleans_up_after_a_run_that_is_stopped_when_its_tasks_have_ended(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    commit = repository.push_commit("kubernetes")
    run = runs.start(revision=commit, branch="kubernetes")
    eventually(lambda: len(jobs_of(cluster, run)) == 2, what="both databases are created", seconds=60, every=0.05)

    run.cancel("StoppedRunFinally")

    assert run.expect("False")["reason"] == "Cancelled"
    assert run.task_condition("deploy-test-dependencies")["status"] == "True"
    assert "test-backend" not in run.taskruns()
    assert run.task_condition("delete-test-dependencies")["status"] == "True"
    run.expect_clean()


@pytest.mark.e2e_full
def test_finally_cleans_up_when_the_tasks_take_too_long(runs: Runs, repository: Repository) -> None:
    run = start_endless(runs, repository, timeouts={"pipeline": "5m", "tasks": "150s", "finally": "1m"})

    condition = run.expect("False")

    assert condition["reason"] == "PipelineRunTimeout"
    assert run.failed_tasks() == {"test-backend": "TaskRunCancelled"}
    assert run.task_condition("delete-test-dependencies")["status"] == "True"
    run.expect_clean()


@pytest.mark.e2e_full
@pytest.mark.parametrize("end", ["pipeline timeout", "cancelled without finally"])
def test_the_jobs_deadline_cleans_up_when_finally_does_not_run(
    end: str, cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    # The databases outlive the run, or their deadline is not what cleans up.
    deadline_seconds = PIPELINE_SECONDS + 30 if end == "pipeline timeout" else DEADLINE_SECONDS
    with short_deadlines(cluster, deadline_seconds):
        if end == "pipeline timeout":
            run = start_endless(runs, repository, timeouts={"pipeline": f"{PIPELINE_SECONDS}s"})
            assert run.expect("False")["reason"] == "PipelineRunTimeout"
        else:
            run = start_endless(runs, repository)
            run.cancel("Cancelled")
            assert run.expect("False")["reason"] == "Cancelled"

        assert "delete-test-dependencies" not in run.taskruns()
        assert len(jobs_of(cluster, run)) == 2
        run.expect_clean(deadline_seconds + JOB_CLEAN_SECONDS, finally_ran=False)
        assert cluster.get(run.path), "the run itself is still there: its owner references did nothing"


@pytest.mark.e2e_full
def test_a_clean_up_that_fails_leaves_the_verdict_to_the_tests(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    def may_not_delete(role: Object) -> None:
        for rule in role["rules"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != "delete"]

    commit = repository.push_commit("kubernetes")
    with (
        short_deadlines(cluster),
        cluster.changed(f"{RBAC}/roles/test-dependencies-deployer", may_not_delete),
    ):
        run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
        condition = run.expect("True")

        assert "Ignored: 1" in condition["message"]
        assert "forbidden" in run.log("delete-test-dependencies", "delete")
        run.expect_clean(DEADLINE_SECONDS + JOB_CLEAN_SECONDS)


@pytest.mark.e2e_full
def test_a_workspace_that_cannot_be_emptied_leaves_the_verdict_to_the_tests(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    def elsewhere(task: Object) -> None:
        (folder,) = [variable for variable in task["spec"]["steps"][0]["env"] if variable["name"] == "FOLDER"]
        folder["value"] = "/nonexistent"

    commit = repository.push_commit("kubernetes")
    with cluster.changed(f"{TEKTON}/tasks/delete-workspace", elsewhere):
        run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
        condition = run.expect("True")

    assert "Ignored: 1" in condition["message"]
    # Tekton's name for a failure of a task whose `onError` is `continue`.
    assert run.task_condition("delete-workspace")["reason"] == "FailureIgnored"
    assert "/nonexistent" in run.log("delete-workspace", "delete")
    run.expect_clean(finally_ran=False)
    assert "source" in (folder_of(run.uid) or [])
    clean_up(cluster, "e2e-prune-work")
    assert folder_of(run.uid) is None


@pytest.mark.e2e_full
def test_a_clean_up_that_takes_too_long_leaves_the_verdict_to_the_tests(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    def sleep(task: Object) -> None:
        task["spec"]["steps"][0]["command"] = ["sleep", "600"]
        task["spec"]["steps"][0]["args"] = []

    def short(pipeline: Object) -> None:
        pipeline["spec"]["finally"][0]["timeout"] = "10s"

    commit = repository.push_commit("kubernetes")
    with (
        cluster.changed(f"{TEKTON}/tasks/delete-test-dependencies", sleep),
        cluster.changed(f"{TEKTON}/pipelines/deploy-striv", short),
    ):
        run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
        condition = run.expect("True")

    assert "Ignored: 1" in condition["message"]
    assert run.task_condition("delete-test-dependencies")["reason"] == "TaskRunTimeout"
    run.delete()
    run.expect_clean()
