"""Pushes of real commits: their runs test them, `receiver deliveries list` tells their ends, and of many a few run at once."""

import re
from collections.abc import Iterable, Iterator

import pytest
import yaml

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import TEKTON, Run
from tests.e2e.support.temporary import git_server, looking
from tests.e2e_receiver.installation import Installation
from tests.support.pushes import encoded, push_payload

pytestmark = pytest.mark.e2e_full

PUSHES = 20
SECONDS = 1500
FAILING_FRONTEND = """
const assert = require('assert')
describe('a broken front end', () => { it('fails', () => assert.strictEqual(1, 2)) })
"""
PASSED = {"sqlite": 4, "mysql": 4, "postgres": 4}


@pytest.fixture(scope="module")
def repository(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The repository that the runs fetch from."""
    with git_server(cluster):
        yield Repository(tmp_path_factory.mktemp("repository") / "striv")


def is_done(run: Object) -> bool:
    """Tell whether a PipelineRun has an outcome."""
    conditions = run.get("status", {}).get("conditions", [])
    return any(c["type"] == "Succeeded" and c["status"] in ("True", "False") for c in conditions)


def push(installation: Installation, commit: str, branch: str) -> str:
    """Deliver the push of a commit and return the name of its run."""
    answer = installation.deliver(encoded(push_payload(ref=f"refs/heads/{branch}", after=commit)))
    assert answer.status == 202, answer
    (name,) = answer.runs
    return name


def wait_for_outcomes(installation: Installation, names: Iterable[str], seconds: float) -> dict[str, Object]:
    """Return what `receiver deliveries list` says of these runs, as soon as it has the end of each."""

    def ended() -> dict[str, Object] | None:
        listed = installation.outcomes()
        return listed if all(listed[name]["state"] == "finished" for name in names) else None

    return eventually(ended, what="the end of all runs in the list", seconds=seconds, every=1)


def test_the_list_tells_how_each_run_ended_and_which_task_failed(
    installation: Installation, repository: Repository
) -> None:
    good = push(installation, repository.push_commit("good"), "good")
    bad = push(installation, repository.push_commit("bad", files={"tests/unit/bad.spec.js": FAILING_FRONTEND}), "bad")

    listed = wait_for_outcomes(installation, (good, bad), seconds=400)

    assert (listed[good]["result"], listed[good]["failed_task"]) == ("succeeded", None)
    assert (listed[bad]["result"], listed[bad]["failed_task"]) == ("failed", "test-frontend (StepFailed)")
    text = installation.execute("work", "receiver", "deliveries", "list")
    assert re.search(rf"{good} +succeeded$", text, re.MULTILINE)
    assert re.search(rf"{bad} +failed: test-frontend \(StepFailed\)$", text, re.MULTILINE)


def test_twenty_pushes_in_a_row_are_all_tested_a_few_at_once(
    cluster: Cluster, installation: Installation, repository: Repository
) -> None:
    (trigger, _) = yaml.safe_load((installation.folder / "config" / "receiver.yaml").read_text())["triggers"]
    names = []
    for number in range(PUSHES):
        commit = repository.push_commit("twenty", flavour="master", message=f"Change {number}")
        names.append(push(installation, commit, "twenty"))
    assert len(set(names)) == PUSHES

    most = 0

    def all_done() -> bool:
        nonlocal most
        # In one look: between two, a run ends and the next begins, and both would count.
        found = [run for run in cluster.items(f"{TEKTON}/pipelineruns") if run["metadata"]["name"] in names]
        most = max(most, sum(not is_done(run) for run in found))
        return len(found) == PUSHES and all(map(is_done, found))

    eventually(all_done, what=f"all {PUSHES} runs are done", seconds=SECONDS, every=1)

    assert most == trigger["max_active"]
    listed = wait_for_outcomes(installation, names, seconds=60)
    # With what failed, and why: the cluster keeps neither.
    assert [listed[name] for name in names if listed[name]["result"] != "succeeded"] == []
    with looking(cluster):
        for name in names:
            run = Run(cluster, installation.wait_for_run(name))
            run.expect("True")
            assert {driver: tests.get("passed") for driver, tests in run.backend_report().items()} == PASSED
            run.expect_clean()
