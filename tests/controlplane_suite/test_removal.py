"""docs/install.md, Remove, to its end: what removes the pipeline with its policies, and what it takes to install it again."""

import os
from pathlib import Path

import pytest

from tests.controlplane.api import ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane_suite.deployed import ROOT, RUNS, Object, kubectl
from tests.support.guide import run, step
from tests.support.scripts import load_script
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane

POLICIES = "validatingadmissionpolicies,validatingadmissionpolicybindings"
UID = "abcdef01-2345-4678-9abc-def012345678"


def test_the_pipeline_is_removed_whole_and_works_again_once_the_api_server_was_restarted(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    """On a control plane of its own, since an API server that has lost the policies would refuse what other tests do."""
    with ControlPlane.start(tmp_path / "plane", using=control_plane.programs) as plane:
        path = f"{plane.programs['kubectl'].parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**plane.environment, "PATH": path}
        run(step("Any cluster", 0), folder=ROOT, environment=environment)
        assert len(policies(plane)) > 10
        wait_until_judged(plane)

        run(step("Remove", 2), folder=ROOT, environment=environment)

        assert policies(plane) == []
        assert not plane.api.exists("v1", "Namespace", RUNS)
        with plane.outage("kube-apiserver"):
            pass
        run(step("Any cluster", 0), folder=ROOT, environment=environment)
        wait_until_judged(plane)


def wait_until_judged(plane: ControlPlane) -> None:
    """Return when the policies are in force and know their templates."""
    wait_until(lambda: judged(plane) == ["admitted", "refused"], what="the policies judge", seconds=60)


def policies(plane: ControlPlane) -> list[str]:
    """Return the names of the pipeline's admission policies and their bindings."""
    done = kubectl(plane, "get", POLICIES, "-o", "name")
    assert done.returncode == 0, done.stderr
    return [name for name in done.stdout.split() if "/striv-ci-" in name]


def judged(plane: ControlPlane) -> list[str]:
    """Tell what becomes of the genuine Job of a database, and of one with another image, from the deployer's hands."""
    deployer = plane.api.as_service_account("test-dependencies-deployer", namespace=RUNS)
    template = plane.api.get("batch/v1", "CronJob", "mysql", namespace=RUNS)
    genuine: Object = load_script("testing_databases").job_manifest("mysql", template, run="striv-1", uid=UID)
    other: Object = load_script("testing_databases").job_manifest("mysql", template, run="striv-1", uid=UID)
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/busybox:1.36.1"
    verdicts = []
    for job in (genuine, other):
        try:
            deployer.create(job, namespace=RUNS, dry_run=True)
        except ApiError as error:
            verdicts.append("refused" if "striv-ci-database-jobs" in error.message else error.message)
        else:
            verdicts.append("admitted")
    return verdicts
