"""The run that the tutorial of 2021 started, in the API versions of its time, is refused today, and says why.

Only what is of that time is as it was there: API versions, kinds, fields and names. The rest is ours.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from receiver.clients.cluster import Cluster
from receiver.errors import PermanentError
from receiver.settings import ClusterSettings
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace

pytestmark = pytest.mark.controlplane

NAMESPACE = "original-run"
ORIGINAL = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: test-dependencies-deployer}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: test-dependencies-deployer}
rules:
- {apiGroups: [""], resources: [pods, services], verbs: [create, delete, get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1beta1
kind: RoleBinding
metadata: {name: test-dependencies-deployer}
subjects:
- {kind: ServiceAccount, name: test-dependencies-deployer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: test-dependencies-deployer}
---
apiVersion: tekton.dev/v1beta1
kind: PipelineRun
metadata: {name: deploy-striv-run-2}
spec:
  pipelineRef: {name: deploy-striv}
  serviceAccountNames:
  - {taskName: deploy-test-dependencies, serviceAccountName: test-dependencies-deployer}
  - {taskName: delete-test-dependencies, serviceAccountName: test-dependencies-deployer}
  workspaces:
  - name: striv-workspace
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: 1Gi}}
"""
RUN = next(found for found in yaml.safe_load_all(ORIGINAL) if found["kind"] == "PipelineRun")


def kubectl(plane: ControlPlane, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Have kubectl apply this, as a user who follows the tutorial would, but for nothing to stay."""
    command: list[str | Path] = [
        plane.programs["kubectl"],
        "apply",
        "--namespace",
        NAMESPACE,
        "--dry-run=server",
        *options,
        "-f",
        "-",
    ]
    environment = {**os.environ, **plane.environment}
    return subprocess.run(
        command, env=environment, input=content, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with a namespace that allows any pod, so that nothing but the file's age stands in its way."""
    make_namespace(control_plane.api, NAMESPACE)
    return control_plane


def test_the_original_run_is_refused_for_the_fields_and_versions_that_are_gone(plane: ControlPlane) -> None:
    result = kubectl(plane, ORIGINAL)

    assert result.returncode != 0
    assert 'unknown field "spec.serviceAccountNames"' in result.stderr
    assert 'no matches for kind "RoleBinding" in version "rbac.authorization.k8s.io/v1beta1"' in result.stderr


def test_only_what_is_gone_stands_in_the_original_runs_way(plane: ControlPlane) -> None:
    names = RUN["spec"]["serviceAccountNames"]
    new_specs = [{"pipelineTaskName": n["taskName"], "taskServiceAccountName": n["serviceAccountName"]} for n in names]
    spec = {**RUN["spec"], "taskRunSpecs": new_specs}
    del spec["serviceAccountNames"]

    result = kubectl(plane, yaml.safe_dump({**RUN, "spec": spec}))

    assert (result.returncode, result.stderr) == (0, "")


def test_a_client_that_is_not_strict_loses_the_service_accounts_without_an_error(plane: ControlPlane) -> None:
    result = kubectl(plane, yaml.safe_dump(RUN), "--validate=warn", "--output=yaml")

    assert result.returncode == 0, result.stderr
    assert "unknown field" in result.stderr
    assert "test-dependencies-deployer" not in str(yaml.safe_load(result.stdout)["spec"])


def test_the_receiver_takes_the_refusal_of_the_original_fields_for_final(plane: ControlPlane) -> None:
    settings = ClusterSettings(kubeconfig=str(plane.kubeconfig), namespace=NAMESPACE)
    cluster = Cluster(settings, folder=plane.kubeconfig.parent, connections=1)
    metadata = {**RUN["metadata"], "namespace": NAMESPACE}

    with pytest.raises(PermanentError, match=r"spec\.serviceAccountNames"):
        cluster.create_run({**RUN, "apiVersion": "tekton.dev/v1", "metadata": metadata}, dry_run=True)
