"""Many pushes at once: the receiver starts as many runs as its configuration allows, and keeps the others."""

import pytest
import yaml

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import Repository, start_server
from tests.e2e.support.runs import Run
from tests.e2e.support.work import start_looking
from tests.e2e_receiver.installation import Installation
from tests.support.pushes import encoded, push_payload

pytestmark = pytest.mark.e2e_full

PUSHES = 20
SECONDS = 1500
PASSED = {"sqlite": 4, "mysql": 4, "postgres": 4}


@pytest.fixture(scope="module")
def repository(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository that the runs fetch from."""
    start_server(cluster)
    return Repository(tmp_path_factory.mktemp("repository") / "striv")


def is_done(run: Object) -> bool:
    """Tell whether a PipelineRun has an outcome."""
    conditions = run.get("status", {}).get("conditions", [])
    return any(c["type"] == "Succeeded" and c["status"] in ("True", "False") for c in conditions)


def test_twenty_pushes_in_a_row_are_all_tested_a_few_at_once(
    cluster: Cluster, installation: Installation, repository: Repository
) -> None:
    start_looking(cluster)
    (trigger, _) = yaml.safe_load((installation.folder / "receiver.yaml").read_text())["triggers"]
    names = []
    for number in range(PUSHES):
        commit = repository.push_commit("twenty", flavour="master", message=f"Change {number}")
        answer = installation.deliver(encoded(push_payload(ref="refs/heads/twenty", after=commit)))
        assert answer.status == 202, answer
        names += answer.runs
    assert len(set(names)) == PUSHES

    most = 0

    def all_done() -> bool:
        nonlocal most
        found = [run for run in map(installation.run, names) if run]
        most = max(most, sum(not is_done(run) for run in found))
        return len(found) == PUSHES and all(map(is_done, found))

    eventually(all_done, what=f"all {PUSHES} runs are done", seconds=SECONDS, every=1)

    assert most == trigger["max_active"]
    for name in names:
        run = Run(cluster, installation.wait_for_run(name))
        run.expect("True")
        assert {driver: tests.get("passed") for driver, tests in run.backend_report().items()} == PASSED
        run.expect_clean()
