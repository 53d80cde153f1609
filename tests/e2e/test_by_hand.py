"""docs/pipeline.md: a run that a person starts without the receiver."""

import re
from pathlib import Path

import pytest

from tests.e2e.support.cluster import CHECKOUT, Cluster
from tests.e2e.support.repository import URL, Repository
from tests.e2e.support.runs import Runs
from tests.support.guide import PIPELINE, filled_in, run, step

pytestmark = pytest.mark.e2e_full


def test_a_commit_that_a_person_names_is_tested(runs: Runs, repository: Repository, tmp_path: Path) -> None:
    commit = repository.push_commit("by-hand", flavour="kubernetes")
    template = tmp_path / "config" / "pipelineruns" / "striv.yaml"
    template.parent.mkdir(parents=True)
    shipped = (CHECKOUT / template.relative_to(tmp_path)).read_text()
    template.write_text(filled_in(shipped, {"https://github.com/bittrance/striv": URL}))

    said = run(step("Installation", 1, PIPELINE), folder=tmp_path, environment={"COMMIT": commit})

    (name,) = re.findall(r"^pipelinerun\.tekton\.dev/(striv-\S+) created$", said, re.MULTILINE)
    started = runs.adopt(name)
    started.expect("True")
    assert started.result("checkout", "commit") == commit
    assert set(started.backend_report()) == {"sqlite", "mysql", "postgres"}
    started.expect_clean()


def test_the_document_finds_the_api_server_to_narrow_the_deployers_way(cluster: Cluster) -> None:
    found = run(step("Fences", 0, PIPELINE), folder=CHECKOUT)

    for address in cluster.addresses():
        assert address in found
