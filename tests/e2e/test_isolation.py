"""What the pods of a run are and see."""

import pytest

from tests.e2e.support.cluster import Cluster
from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import CORE, Runs

pytestmark = pytest.mark.e2e_full

WITH_TOKEN = {"deploy-test-dependencies", "delete-test-dependencies"}
LOOK_AROUND = """
import os
import pathlib


def test_there_is_no_token():
    found = [path for path, _, files in os.walk("/") if "token" in files and not path.startswith("/proc")]
    assert not found
    assert not pathlib.Path("/var/run/secrets").exists()


def test_nobody_is_root():
    assert os.getuid() == os.getgid() == 65532
    status = pathlib.Path("/proc/self/status").read_text()
    assert "CapEff:\\t0000000000000000" in status
    assert "NoNewPrivs:\\t1" in status
    assert "Seccomp:\\t2" in status


def test_the_image_cannot_be_changed():
    try:
        pathlib.Path("/etc/changed").touch()
    except OSError as error:
        assert error.errno == 30
    else:
        raise AssertionError


def test_there_is_no_cache():
    assert not pathlib.Path("/striv/cache").exists()
"""


def test_pushed_code_finds_nothing_to_take(cluster: Cluster, runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("look", files={"test/test_around.py": LOOK_AROUND})

    run = runs.start(revision=commit, branch="look", repository_id="1")
    run.expect("True")

    assert "test/test_around.py ...." in run.log("test-backend", "test")
    pods = cluster.items(f"{CORE}/pods", selector=f"tekton.dev/pipelineRunUID={run.uid}")
    assert len(pods) == 8
    for pod in pods:
        task = pod["metadata"]["labels"]["tekton.dev/pipelineTask"]
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        assert any("serviceAccountToken" in source for source in sources) == (task in WITH_TOKEN)
        claims = [volume for volume in pod["spec"]["volumes"] if "persistentVolumeClaim" in volume]
        assert not (claims and task in WITH_TOKEN)
        expected = "test-dependencies-deployer" if task in WITH_TOKEN else "striv-ci"
        assert pod["spec"]["serviceAccountName"] == expected
        assert pod["spec"]["securityContext"]["runAsUser"] == 65532
        for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
            assert container["resources"]["limits"]["memory"]
