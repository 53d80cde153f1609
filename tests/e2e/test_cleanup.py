"""Three lines of defence against databases that stay: `finally`, owners, and the Job's own deadline. Each works alone."""

from typing import Any

import pytest

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import ENDLESS_BACKEND, Repository
from tests.e2e.support.runs import BATCH, RBAC, RUN_LABEL, TEKTON, Run, Runs
from tests.e2e.support.work import clean_up, folder_of

DEADLINE_SECONDS = 60
JOB_CLEAN_SECONDS = 45
"""A Job's time to live after its deadline, its pod's end and the collection of what it owned."""


def start_endless(runs: Runs, repository: Repository, **given: Any) -> Run:
    """Start a run whose back-end tests do not end by themselves, and wait until they run."""
    commit = repository.push_commit("endless", files={"test/test_endless.py": ENDLESS_BACKEND})
    run = runs.start(revision=commit, branch="endless", repository_id="1", **given)
    run.wait_for_task("test-backend")
    return run


def short_deadline(template: Object) -> None:
    """Give a database's Job a deadline that a test can wait for."""
    template["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] = DEADLINE_SECONDS
    template["spec"]["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] = 5


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
def test_finally_cleans_up_when_the_tasks_take_too_long(runs: Runs, repository: Repository) -> None:
    run = start_endless(runs, repository, timeouts={"pipeline": "3m", "tasks": "55s", "finally": "1m"})

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
    with (
        cluster.changed(f"{BATCH}/cronjobs/mysql", short_deadline),
        cluster.changed(f"{BATCH}/cronjobs/postgres", short_deadline),
    ):
        if end == "pipeline timeout":
            run = start_endless(runs, repository, timeouts={"pipeline": "50s"})
        else:
            run = start_endless(runs, repository)
            run.cancel("Cancelled")
        run.expect("False")

        assert "delete-test-dependencies" not in run.taskruns()
        assert len(jobs_of(cluster, run)) == 2
        run.expect_clean(DEADLINE_SECONDS + JOB_CLEAN_SECONDS, finally_ran=False)
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
        cluster.changed(f"{BATCH}/cronjobs/mysql", short_deadline),
        cluster.changed(f"{BATCH}/cronjobs/postgres", short_deadline),
        cluster.changed(f"{RBAC}/roles/test-dependencies-deployer", may_not_delete),
    ):
        run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
        condition = run.expect("True")

        assert "Ignored: 1" in condition["message"]
        assert "forbidden" in run.log("delete-test-dependencies", "delete")
        run.expect_clean(DEADLINE_SECONDS + JOB_CLEAN_SECONDS)


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
