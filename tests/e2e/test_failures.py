"""Whatever fails is told by name, and leaves nothing behind."""

import pytest

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import ENDLESS_BACKEND, Repository
from tests.e2e.support.runs import BATCH, CORE, RUN_LABEL, TEKTON, Runs

UNKNOWN_REVISION = "1" * 40

FAILING_BACKEND = """
def test_only_mysql_fails(store):
    assert store.driver != "mysql"
"""
FAILING_FRONTEND = """
const assert = require('assert')
describe('a broken front end', () => { it('fails', () => assert.strictEqual(1, 2)) })
"""
MYSQL_IS_ASKED = "MySQL is asked"
ASKS_MYSQL_FOR_EVER = f"""
def test_asks_until_the_database_goes(store, capfd):
    if store.driver == "mysql":
        with capfd.disabled():
            print("{MYSQL_IS_ASKED}", flush=True)
        store.execute("SELECT SLEEP(86400)").fetchall()
"""
MEMORY_HOG = """
def test_takes_all_memory():
    hoard = [bytearray(b"x") * (64 * 2**20) for _ in range(64)]
    assert hoard
"""


@pytest.mark.e2e
def test_a_failing_back_end_test_fails_the_run_and_names_its_database(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("failing", files={"test/test_failing.py": FAILING_BACKEND})

    run = runs.start(revision=commit, branch="failing", repository_id="1")

    run.expect("False")
    assert run.failed_tasks() == {"test-backend": "StepFailed"}
    report = run.backend_report()
    assert {driver: (tests.get("passed"), tests.get("failed")) for driver, tests in report.items()} == {
        "sqlite": (5, None),
        "mysql": (4, 1),
        "postgres": (5, None),
    }
    assert run.result("test-backend", "problem") is None
    run.expect_clean()


@pytest.mark.e2e_full
def test_a_database_that_goes_while_it_is_tested_is_no_failed_test(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    commit = repository.push_commit("asking", files={"test/test_asking.py": ASKS_MYSQL_FOR_EVER})
    run = runs.start(revision=commit, branch="asking", repository_id="1")
    run.wait_for_task("test-backend")
    eventually(lambda: MYSQL_IS_ASKED in run.log("test-backend", "test"), what="MySQL is asked", seconds=90)

    (pod,) = cluster.items(f"{CORE}/pods", selector=f"{RUN_LABEL}={run.uid},app.kubernetes.io/name=mysql")
    cluster.delete(f"{CORE}/pods/{pod['metadata']['name']}")

    run.expect("False")
    assert run.failed_tasks() == {"test-backend": "StepFailed"}
    (step,) = run.taskruns()["test-backend"]["status"]["steps"]
    assert step["terminated"]["exitCode"] == 69
    assert (
        run.result("test-backend", "problem") == f"no answer any more from mysql (mysql-{run.uid}:3306, 127.0.0.1:3306)"
    )
    run.expect_clean()


@pytest.mark.e2e_full
def test_a_failing_front_end_test_fails_the_run(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("failing", files={"tests/unit/failing.spec.js": FAILING_FRONTEND})

    run = runs.start(revision=commit, branch="failing", repository_id="1")

    run.expect("False")
    assert run.failed_tasks() == {"test-frontend": "StepFailed"}
    assert "1 failing" in run.log("test-frontend", "test")
    run.expect_clean()


@pytest.mark.e2e_full
@pytest.mark.parametrize(
    ("kind", "only_socket"), [("mysql", ["--skip-networking"]), ("postgres", ["-c", "listen_addresses="])]
)
def test_a_database_that_never_gets_ready_fails_the_run_in_time_and_by_name(
    kind: str, only_socket: list[str], cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    def close(template: Object) -> None:
        container = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        container["args"] += only_socket

    commit = repository.push_commit("kubernetes")
    with cluster.changed(f"{BATCH}/cronjobs/{kind}", close):
        # More than the other needs, which is not to be named.
        run = runs.start(revision=commit, branch="kubernetes", params={"database-ready-seconds": "40"})
        run.expect("False", seconds=180)

    assert run.failed_tasks() == {"deploy-test-dependencies": "StepFailed"}
    problem = run.result("deploy-test-dependencies", "problem")
    assert problem == f"{kind} is not ready after 40 s: it runs and does not answer a query"
    assert "test-backend" not in run.taskruns()
    run.expect_clean()


@pytest.mark.e2e_full
def test_a_database_whose_image_cannot_be_pulled_is_told_apart(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    def missing_image(template: Object) -> None:
        container = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        container["image"] = "registry.invalid/postgres:none"

    commit = repository.push_commit("kubernetes")
    with cluster.changed(f"{BATCH}/cronjobs/postgres", missing_image):
        run = runs.start(revision=commit, branch="kubernetes", params={"database-ready-seconds": "20"})
        run.expect("False", seconds=120)

    problem = run.result("deploy-test-dependencies", "problem") or ""
    assert problem.startswith("postgres is not ready after 20 s: ")
    assert "ImagePull" in problem
    run.expect_clean()


@pytest.mark.e2e_full
def test_a_task_whose_image_cannot_be_pulled_is_told_apart(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    def missing_image(task: Object) -> None:
        task["spec"]["steps"][0]["image"] = "registry.invalid/node:none"

    commit = repository.push_commit("kubernetes")
    with cluster.changed(f"{TEKTON}/tasks/test-frontend", missing_image):
        run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
        run.expect("False")

    assert run.failed_tasks() == {"test-frontend": "TaskRunImagePullFailed"}
    run.expect_clean()


@pytest.mark.e2e_full
def test_a_test_that_takes_too_much_memory_is_told_apart(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("hog", files={"test/test_hog.py": MEMORY_HOG})

    run = runs.start(revision=commit, branch="hog", repository_id="1")

    run.expect("False")
    assert run.failed_tasks() == {"test-backend": "StepOOM"}
    run.expect_clean()


@pytest.mark.e2e_full
def test_an_evicted_pod_is_told_apart(cluster: Cluster, runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("endless", files={"test/test_endless.py": ENDLESS_BACKEND})
    run = runs.start(revision=commit, branch="endless", repository_id="1")
    run.wait_for_task("test-backend")

    pod = f"{CORE}/pods/{run.taskruns()['test-backend']['status']['podName']}"
    evicted = {"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}

    def noticed() -> bool:
        cluster.merge(f"{pod}/status", evicted)
        return bool(run.failed_tasks())

    eventually(noticed, what="the eviction is noticed", seconds=30)
    run.expect("False")
    assert run.failed_tasks() == {"test-backend": "PodEvicted"}
    # Nothing was really evicted: the containers go with the run.
    run.delete()
    run.expect_clean()


@pytest.mark.e2e_full
@pytest.mark.usefixtures("repository")
def test_an_unknown_revision_fails_at_checkout(runs: Runs) -> None:
    run = runs.start(revision=UNKNOWN_REVISION, branch="kubernetes")

    run.expect("False", seconds=120)

    assert run.failed_tasks() == {"checkout": "StepFailed"}
    assert f"commit {UNKNOWN_REVISION} cannot be fetched" in run.log("checkout", "checkout")
    run.expect_clean()


@pytest.mark.e2e_full
@pytest.mark.parametrize("revision", ["master", "--upload-pack=touch pwned", "1" * 39, "HEAD", "0" * 40 + ":x"])
def test_what_is_no_commit_id_is_refused_at_checkout(revision: str, runs: Runs) -> None:
    run = runs.start(revision=revision)

    run.expect("False", seconds=120)

    assert run.failed_tasks() == {"checkout": "StepFailed"}
    assert "revision is not the full id of a commit" in run.log("checkout", "checkout")
    run.expect_clean()
