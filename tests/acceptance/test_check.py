"""`receiver check` against the real API server: as an administrator, and as the worker, which holds no webhook secret."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import pytest
import yaml

from receiver.clients.cluster import Cluster
from receiver.settings import ClusterSettings
from tests.controlplane.cluster import ControlPlane
from tests.support.kubeconfigs import write_kubeconfig
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import ROOT, Planes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
RBAC = "rbac.authorization.k8s.io/v1"


@pytest.fixture
def pipeline(control_plane: ControlPlane, run_namespace: str, planes: Planes) -> Planes:
    """A receiver whose template fits the Pipeline where its runs go."""
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    return planes


def shipped_rules() -> list[dict[str, Any]]:
    """What k8s/base grants the worker."""
    found = yaml.safe_load_all((ROOT / "k8s/base/rbac.yaml").read_text())
    rules: list[dict[str, Any]] = next(each for each in found if each["kind"] == "Role")["rules"]
    return rules


def as_worker(control_plane: ControlPlane, planes: Planes, namespace: str, rules: list[dict[str, Any]]) -> Planes:
    """Leave the receiver what the container `work` has: the token of a ServiceAccount with these rights, no secrets."""
    api, metadata = control_plane.api, {"name": "receiver", "namespace": namespace}
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    api.create({"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": rules})
    api.create(
        {
            "apiVersion": RBAC,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "receiver"},
            "subjects": [{"kind": "ServiceAccount", "name": "receiver", "namespace": namespace}],
        }
    )
    token = api.as_service_account("receiver", namespace=namespace).token
    file = write_kubeconfig(planes.folder / "worker.kubeconfig", control_plane.kubeconfig, token=token)
    cluster = Cluster(ClusterSettings(kubeconfig=str(file), namespace=namespace), folder=planes.folder, connections=1)
    # The authorizer learns of a new binding a moment after it was stored.
    wait_until(partial(cluster.may, namespace, "get", "pipelineruns"), what="the worker's rights")
    cluster.close()
    planes.environment["RECEIVER__CLUSTER__KUBECONFIG"] = str(file)
    shutil.rmtree(planes.folder / "secrets")
    return planes


def test_the_worker_proves_rights_and_templates_without_a_webhook_secret(
    control_plane: ControlPlane, run_namespace: str, pipeline: Planes
) -> None:
    worker = as_worker(control_plane, pipeline, run_namespace, shipped_rules())
    done = worker.command("check", "--cluster")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    for said in (
        "triggers striv",
        f"namespace {run_namespace}: may create pipelineruns",
        "params, workspaces and tasks fit the Pipeline deploy-striv",
        f"in {run_namespace} (dry run)",
    ):
        assert [line for line in lines if said in line], said
    assert control_plane.api.list("tekton.dev/v1", "PipelineRun", namespace=run_namespace) == []
    for whole in ([], ["--offline"]):
        done = worker.command("check", *whole)
        assert (done.returncode, "the secret file cannot be read" in done.stderr) == (2, True)


def test_a_right_that_the_worker_misses_is_found(
    control_plane: ControlPlane, run_namespace: str, pipeline: Planes
) -> None:
    rules = shipped_rules()
    (runs,) = (rule for rule in rules if rule["resources"] == ["pipelineruns"])
    runs["verbs"].remove("create")
    done = as_worker(control_plane, pipeline, run_namespace, rules).command("check", "--cluster")
    assert done.returncode == 3
    assert f"FAIL  namespace {run_namespace}: may NOT create pipelineruns; grant it in the worker's Role" in done.stdout
    assert f"ok    namespace {run_namespace}: may watch pipelineruns" in done.stdout


@pytest.mark.parametrize("options", [[], ["--cluster"]])
def test_a_template_that_the_cluster_would_refuse_is_found(
    control_plane: ControlPlane, run_namespace: str, pipeline: Planes, options: list[str]
) -> None:
    template = pipeline.folder / "pipelineruns/striv.yaml"
    content = yaml.safe_load(template.read_text())
    content["spec"]["serviceAccountNames"] = []
    template.write_text(yaml.safe_dump(content))
    done = pipeline.command("check", *options)
    assert done.returncode == 3
    (failure,) = (line for line in done.stdout.splitlines() if line.startswith("FAIL"))
    assert 'unknown field "spec.serviceAccountNames"' in failure
    assert control_plane.api.list("tekton.dev/v1", "PipelineRun", namespace=run_namespace) == []


def test_a_pipeline_that_is_not_there_is_found(run_namespace: str, planes: Planes) -> None:
    done = planes.command("check", "--cluster")
    assert done.returncode == 3
    assert f"there is no Pipeline deploy-striv in namespace {run_namespace}; apply it first" in done.stdout
