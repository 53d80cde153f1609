"""Branches and messages that want to be executed are text.

Branches that Tekton or Kubernetes would expand, such as `$(id)`, never become runs: test_admission_of_the_receiver.py.
"""

import hashlib

import pytest

from tests.e2e.support.cluster import Cluster, Object
from tests.e2e.support.repository import URL, Repository
from tests.e2e.support.runs import TEKTON, Run, Runs

REPOSITORY_ID = "1"
# The first name is relative, which steps may not be able to write: their folder is the image's. The other is in the workspace,
# which every step that learns of a branch can write, and the commit's own test can see.
TOUCH = "touch${IFS}pwned${IFS}/workspace/striv-workspace/pwned"
LEGAL_FOR_GIT = [
    f"x;{TOUCH}",
    f"`{TOUCH}`",
    f"x'\"&&{TOUCH}|x",
    f"-upload-pack={TOUCH}",
    "é" * 60 + "/ветка/枝",
    "b" * 200,
]
NOTHING_EXECUTED = """
import pathlib

def test_nothing_was_executed():
    assert not list(pathlib.Path("..").glob("pwned*")) + list(pathlib.Path(".").rglob("pwned*"))
    assert not list(pathlib.Path("/tmp").glob("pwned*"))
"""
PLAIN_TOUCH = TOUCH.replace("${IFS}", " ")
MESSAGE = f'Innocent title\n\n$({PLAIN_TOUCH}) `{PLAIN_TOUCH}`\n"; {PLAIN_TOUCH} #\n'


def scope_of(run: Run, branch: str) -> str:
    """Compute the cache's folder for a run of a branch, independently of the pipeline."""
    # Kubernetes makes one $ of two, so that a branch with a $ could pass for another: it shares nothing.
    if "$" in branch:
        return f"run-{run.uid}"
    return "branch-" + hashlib.sha256(f"{URL}\n{REPOSITORY_ID}\n{branch}".encode()).hexdigest()[:40]


def start(branch: str, runs: Runs, repository: Repository) -> Run:
    """Push to a branch of that name and start its run as the receiver would."""
    commit = repository.push_commit(branch, files={"test/test_hostile.py": NOTHING_EXECUTED}, message=MESSAGE)
    return runs.start(revision=commit, branch=branch, repository_id=REPOSITORY_ID)


def expect_harmless(run: Run) -> None:
    """Wait for success, which includes the commit's own test that nothing was executed."""
    run.expect("True", seconds=600)
    assert "test/test_hostile.py ." in run.log("test-backend", "test")
    assert run.backend_report()["mysql"]["passed"] == 4
    run.expect_clean()


@pytest.mark.e2e
def test_a_hostile_branch_is_only_a_name(runs: Runs, repository: Repository) -> None:
    run = start(LEGAL_FOR_GIT[0], runs, repository)

    expect_harmless(run)
    assert run.result("checkout", "cache-scope") == scope_of(run, LEGAL_FOR_GIT[0])


@pytest.mark.e2e_full
def test_a_branch_that_is_executed_would_be_noticed(cluster: Cluster, runs: Runs, repository: Repository) -> None:
    def execute(task: Object) -> None:
        (checkout,) = [step for step in task["spec"]["steps"] if step["name"] == "checkout"]
        checkout["command"] = ["sh", "-c", 'sh -c "$BRANCH"; exec "$@"', "sh", *checkout["command"]]

    with cluster.changed(f"{TEKTON}/tasks/checkout", execute):
        run = start(LEGAL_FOR_GIT[0], runs, repository)
        run.expect("False")

    assert run.failed_tasks() == {"test-backend": "StepFailed"}
    assert "test/test_hostile.py F" in run.log("test-backend", "test")
    run.expect_clean()


@pytest.mark.e2e_full
def test_every_branch_that_git_allows_is_only_a_name(runs: Runs, repository: Repository) -> None:
    started = {branch: start(branch, runs, repository) for branch in LEGAL_FOR_GIT[1:]}

    for branch, run in started.items():
        expect_harmless(run)
        assert run.result("checkout", "cache-scope") == scope_of(run, branch)
