"""The run that the tutorial of 2021 started, in the API versions of its time, is refused today, and says why.

Only what is of that time is as it was there: API versions, kinds, fields and names. The rest is ours.
"""

import subprocess

import pytest
import yaml

from receiver.clients.cluster import Cluster
from receiver.errors import PermanentError
from receiver.settings import ClusterSettings
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.controlplane_suite.deployed import kubectl

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


def apply(plane: ControlPlane, content: str) -> subprocess.CompletedProcess[str]:
    """Apply this as a user who follows the tutorial would, but for nothing to stay."""
    return kubectl(plane, "apply", "--namespace", NAMESPACE, "--dry-run=server", "-f", "-", stdin=content)


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with a namespace that allows any pod, so that nothing but the file's age stands in its way."""
    make_namespace(control_plane.api, NAMESPACE)
    return control_plane


def test_the_original_run_is_refused_for_the_fields_and_versions_that_are_gone(plane: ControlPlane) -> None:
    result = apply(plane, ORIGINAL)

    assert result.returncode != 0
    assert 'unknown field "spec.serviceAccountNames"' in result.stderr
    assert 'no matches for kind "RoleBinding" in version "rbac.authorization.k8s.io/v1beta1"' in result.stderr


def test_only_what_is_gone_stands_in_the_original_runs_way(plane: ControlPlane) -> None:
    names = RUN["spec"]["serviceAccountNames"]
    new_specs = [{"pipelineTaskName": n["taskName"], "taskServiceAccountName": n["serviceAccountName"]} for n in names]
    spec = {**RUN["spec"], "taskRunSpecs": new_specs}
    del spec["serviceAccountNames"]

    result = apply(plane, yaml.safe_dump({**RUN, "spec": spec}))

    assert (result.returncode, result.stderr) == (0, "")


def test_the_receiver_takes_the_refusal_of_the_original_fields_for_final(plane: ControlPlane) -> None:
    settings = ClusterSettings(kubeconfig=str(plane.kubeconfig), namespace=NAMESPACE)
    cluster = Cluster(settings, folder=plane.kubeconfig.parent, connections=1)
    metadata = {**RUN["metadata"], "namespace": NAMESPACE}

    with pytest.raises(PermanentError, match=r"spec\.serviceAccountNames"):
        cluster.create_run({**RUN, "apiVersion": "tekton.dev/v1", "metadata": metadata}, dry_run=True)
