"""Several runs at once, and a Tekton that goes away in between."""

import pytest

from receiver.settings import load_settings
from tests.e2e.support.cluster import CHECKOUT, Cluster
from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import Run, Runs

pytestmark = pytest.mark.e2e_full

TEKTON_PODS = "/api/v1/namespaces/tekton-pipelines/pods"
CONTROLLER = "app.kubernetes.io/name=controller,app.kubernetes.io/part-of=tekton-pipelines"
PASSED = {"sqlite": 4, "mysql": 4, "postgres": 4}


def expect_tested(run: Run, seconds: float) -> None:
    """Wait for success and compare the back-end tests' own report with what a commit of the miniature holds."""
    run.expect("True", seconds=seconds)
    report = run.backend_report()
    assert {driver: tests.get("passed") for driver, tests in report.items()} == PASSED
    assert report["mysql"]["host"] in ("127.0.0.1", f"mysql-{run.uid}")
    run.expect_clean()


def test_a_run_survives_a_restart_of_tektons_controller(cluster: Cluster, runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("kubernetes")
    run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
    run.wait_for_task("deploy-test-dependencies")
    before = cluster.items(TEKTON_PODS, selector=CONTROLLER)
    assert before

    for pod in before:
        cluster.delete(f"{TEKTON_PODS}/{pod['metadata']['name']}")

    expect_tested(run, seconds=300)
    assert run.frontend_passed() == 2
    after = {pod["metadata"]["uid"] for pod in cluster.items(TEKTON_PODS, selector=CONTROLLER)}
    assert not after & {pod["metadata"]["uid"] for pod in before}


def test_two_runs_at_once_have_databases_of_their_own(runs: Runs, repository: Repository) -> None:
    started = [
        runs.start(revision=repository.push_commit(f"two-{flavour}", flavour=flavour), branch=f"two-{flavour}")
        for flavour in ("kubernetes", "master")
    ]

    for run in started:
        expect_tested(run, seconds=300)


def test_as_many_runs_at_once_as_the_receiver_starts_are_all_tested(runs: Runs, repository: Repository) -> None:
    (trigger,) = load_settings(CHECKOUT / "config" / "receiver.yaml", {}).triggers
    assert trigger.max_active
    started = [
        runs.start(
            revision=repository.push_commit("many", flavour="master", message=f"Change {number}"),
            branch="many",
            repository_id="1",
        )
        for number in range(trigger.max_active)
    ]

    for run in started:
        expect_tested(run, seconds=600)
