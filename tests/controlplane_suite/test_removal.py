"""docs/install.md, Remove, to its end: what removes the pipeline with its policies, and what it takes to install it again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.api import ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane_suite.deployed import K8S, ROOT, RUNS, build, kubectl, of_kind, path_with_kubectl
from tests.support.guide import PIPELINE, run, step
from tests.support.scripts import load_script
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane

databases = load_script("testing_databases")

POLICIES = "validatingadmissionpolicies,validatingadmissionpolicybindings"
UID = "abcdef01-2345-4678-9abc-def012345678"
FLAGS = ("v1", "ConfigMap", "feature-flags")


@pytest.fixture
def plane(control_plane: ControlPlane, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of the test's own: one that has lost the policies would refuse what other tests do."""
    with ControlPlane.start(tmp_path / "plane", using=control_plane.programs) as started:
        yield started


def test_the_pipeline_that_was_removed_with_its_policies_works_again_once_the_api_server_was_restarted(
    plane: ControlPlane,
) -> None:
    def typed(commands: str) -> None:
        run(commands, folder=ROOT, environment={**plane.environment, "PATH": path_with_kubectl(plane)})

    plane.api.patch(*FLAGS, {"data": {"set-security-context": "false"}}, namespace="tekton-pipelines")
    typed(step("Installation", 0, PIPELINE))
    flags = plane.api.get(*FLAGS, namespace="tekton-pipelines")["data"]
    assert flags["set-security-context"] == "true"
    typed(step("Any cluster", 0))
    installed = set(policies(plane))
    assert installed == set(written_policies(plane))
    wait_until_judged(plane, "admitted", "refused")
    # What comes before it in the document, of which the rest is not installed here.
    typed(f"kubectl delete namespace {RUNS}")

    typed(step("Remove", 2))

    assert policies(plane) == []
    assert not plane.api.exists("v1", "Namespace", RUNS)
    typed(step("Any cluster", 0))
    wait_until_judged(plane, "refused", "refused")
    with plane.outage("kube-apiserver"):
        pass
    wait_until_judged(plane, "admitted", "refused")


def wait_until_judged(plane: ControlPlane, *verdicts: str) -> None:
    """Return when this is what becomes of a genuine Job and of a hostile one."""
    wait_until(lambda: judged(plane) == [*verdicts], what=f"the policies say {verdicts}", seconds=60)


def written_policies(plane: ControlPlane) -> list[str]:
    """Return the names of the policies and bindings in k8s/striv, as kubectl prints them."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    built = build(plane, K8S / "striv")
    return [
        f"{kind.lower()}.admissionregistration.k8s.io/{found['metadata']['name']}"
        for kind in kinds
        for found in of_kind(built, kind)
    ]


def policies(plane: ControlPlane) -> list[str]:
    """Return the names of the pipeline's admission policies and their bindings."""
    done = kubectl(plane, "get", POLICIES, "-o", "name")
    assert done.returncode == 0, done.stderr
    return [name for name in done.stdout.split() if "/striv-ci-" in name]


def judged(plane: ControlPlane) -> list[str]:
    """Tell what becomes of the genuine Job of a database, and of one with another image, from the deployer's hands."""
    deployer = plane.api.as_service_account("test-dependencies-deployer", namespace=RUNS)
    template = plane.api.get("batch/v1", "CronJob", "mysql", namespace=RUNS)
    genuine, hostile = (databases.job_manifest("mysql", template, run="striv-1", uid=UID) for _ in range(2))
    hostile["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/busybox:1.36.1"
    verdicts = []
    for job in (genuine, hostile):
        try:
            deployer.create(job, namespace=RUNS, dry_run=True)
        except ApiError as error:
            verdicts.append("refused" if "striv-ci-database-jobs" in error.message else error.message)
        else:
            verdicts.append("admitted")
    return verdicts
