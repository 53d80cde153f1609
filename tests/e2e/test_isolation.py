"""What the pods of a run are and see."""

import pytest

from tests.e2e.support.cluster import Cluster
from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import CORE, Runs

pytestmark = pytest.mark.e2e_full

WITH_TOKEN = {"deploy-test-dependencies", "delete-test-dependencies"}
TASKS_OF_ANY_RUN = WITH_TOKEN | {
    "checkout",
    "write-testing-databases-conf",
    "test-frontend",
    "test-backend",
    "delete-workspace",
}
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


def test_there_is_no_work_of_other_runs():
    mounts = [line.split()[3:5] for line in open("/proc/self/mountinfo")]
    workspace = str(pathlib.Path("..").resolve())
    (root,) = [root for root, target in mounts if target == workspace]
    assert root.endswith("/" + os.environ["PIPELINE_RUN_UID"])
    assert {path.name for path in pathlib.Path("..").iterdir()} == {"source", "venv"}
"""

# What is hard to delete: closed folders, links to elsewhere, odd names, a path too long to say.
HARD_TO_DELETE = """
import os
import pathlib


def test_it_leaves_a_mess():
    mess = pathlib.Path("..").resolve() / "mess"
    closed = mess / "closed" / "deeper"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    (mess / "link").symlink_to("/striv/scripts")
    os.mkfifo(mess / "pipe")
    for name in ("-rf", "a\\nb", "*", " ", "$(id)"):
        (mess / name).touch()
    inside = os.open(mess, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=inside)
        outside, inside = inside, os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(outside)
    for folder in (closed, closed.parent):
        folder.chmod(0)
"""


def test_pushed_code_finds_nothing_to_take(cluster: Cluster, runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("look", files={"test/test_around.py": LOOK_AROUND})

    run = runs.start(revision=commit, branch="look", repository_id="1")
    run.expect("True")

    assert "test/test_around.py ....." in run.log("test-backend", "test")
    pods = cluster.items(f"{CORE}/pods", selector=f"tekton.dev/pipelineRunUID={run.uid}")
    tasks = {pod["metadata"]["labels"]["tekton.dev/pipelineTask"] for pod in pods}
    # What the cache has is not installed, by no pod.
    assert len(pods) == len(tasks)
    assert tasks >= TASKS_OF_ANY_RUN
    for pod in pods:
        task = pod["metadata"]["labels"]["tekton.dev/pipelineTask"]
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        assert any("serviceAccountToken" in source for source in sources) == (task in WITH_TOKEN)
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert not (claims and task in WITH_TOKEN)
        mounts = [mount for container in pod["spec"]["containers"] for mount in container["volumeMounts"]]
        work = [mount for mount in mounts if claims.get(mount["name"]) == "striv-work"]
        assert all(mount["subPath"] == run.uid for mount in work)
        assert bool(work) == (task not in WITH_TOKEN)
        expected = "test-dependencies-deployer" if task in WITH_TOKEN else "striv-ci"
        assert pod["spec"]["serviceAccountName"] == expected
        assert pod["spec"]["securityContext"]["runAsUser"] == 65532
        for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["limits"]["ephemeral-storage"]


def test_whatever_pushed_code_leaves_behind_is_deleted_with_its_run(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("mess", files={"test/test_mess.py": HARD_TO_DELETE})

    run = runs.start(revision=commit, branch="mess", repository_id="1")
    condition = run.expect("True")

    assert "test/test_mess.py ." in run.log("test-backend", "test")
    assert "Ignored: 0" in condition["message"] or "Ignored" not in condition["message"]
    assert run.task_condition("delete-workspace")["status"] == "True"
    run.expect_clean()
