"""The control plane is a real one: what it admits, refuses, and whom."""

from typing import Any

import pytest
import requests

from tests.controlplane import pods
from tests.controlplane.api import ApiError, Object
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.pipeline_runs import pipeline_run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane


def test_the_server_is_the_pinned_kubernetes(control_plane: ControlPlane) -> None:
    version = control_plane.api.request("GET", "/version")["gitVersion"]

    assert version == control_plane.programs.versions.kubernetes


def test_tekton_tells_its_pinned_version_to_every_authenticated_client(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    nobody = control_plane.api.as_service_account("default", namespace=run_namespace)

    info = nobody.get("v1", "ConfigMap", "pipelines-info", namespace="tekton-pipelines")

    assert info["data"]["version"] == control_plane.programs.versions.tekton


def test_a_run_name_longer_than_a_label_is_refused_by_tektons_webhook(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    with pytest.raises(ApiError) as refusal:
        control_plane.api.create(pipeline_run("x" * 64), namespace=run_namespace)

    assert refusal.value.code == 400
    assert 'admission webhook "validation.webhook.pipeline.tekton.dev" denied the request' in refusal.value.message
    assert "length must be no more than 63 characters" in refusal.value.message


def test_a_run_gets_tektons_defaults(control_plane: ControlPlane, run_namespace: str) -> None:
    run = control_plane.api.create(pipeline_run("defaults"), namespace=run_namespace, dry_run=True)

    assert run["spec"]["taskRunTemplate"] == {"serviceAccountName": "default"}
    assert run["spec"]["timeouts"] == {"pipeline": "1h0m0s"}


@pytest.mark.parametrize("version", ["v1beta1", "v1"])
def test_the_removed_field_serviceaccountnames_is_refused_by_strict_decoding(
    control_plane: ControlPlane, run_namespace: str, version: str
) -> None:
    old = {
        "apiVersion": f"tekton.dev/{version}",
        "kind": "PipelineRun",
        "metadata": {"name": "old"},
        "spec": {
            "pipelineRef": {"name": "deploy-striv"},
            "serviceAccountNames": [{"taskName": "deploy", "serviceAccountName": "deployer"}],
        },
    }

    with pytest.raises(ApiError) as refusal:
        control_plane.api.create(old, namespace=run_namespace)

    assert refusal.value.code == 400
    assert 'strict decoding error: unknown field "spec.serviceAccountNames"' in refusal.value.message


def test_without_strict_decoding_the_removed_field_is_dropped_in_silence(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    old = pipeline_run("old", serviceAccountNames=[{"taskName": "build", "serviceAccountName": "deployer"}])

    run = control_plane.api.create(old, namespace=run_namespace, strict=False, dry_run=True)

    assert "serviceAccountNames" not in run["spec"]


def test_the_same_name_twice_is_a_conflict(control_plane: ControlPlane, run_namespace: str) -> None:
    control_plane.api.create(pipeline_run("twice"), namespace=run_namespace)

    with pytest.raises(ApiError) as refusal:
        control_plane.api.create(pipeline_run("twice"), namespace=run_namespace)

    assert (refusal.value.code, refusal.value.reason) == (409, "AlreadyExists")


def test_a_validating_admission_policy_refuses_what_it_says(control_plane: ControlPlane, run_namespace: str) -> None:
    api, name = control_plane.api, f"only-deploy-striv-{run_namespace}"
    group = "admissionregistration.k8s.io/v1"
    rule = {
        "apiGroups": ["tekton.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["pipelineruns"],
    }
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "has(object.spec.pipelineRef)", "message": "no inline Pipelines here"}],
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": run_namespace}}
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selector},
    }
    kinds: dict[str, Object] = {
        "ValidatingAdmissionPolicy": policy,
        "ValidatingAdmissionPolicyBinding": binding,
    }
    for kind, spec in kinds.items():
        api.create({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec})

    def refusal() -> ApiError | None:
        try:
            api.create(pipeline_run("inline"), namespace=run_namespace, dry_run=True)
        except ApiError as error:
            return error
        return None

    try:
        refused = wait_until(refusal, what="the policy to be enforced")
    finally:
        for kind in kinds:
            api.delete(group, kind, name)

    assert "no inline Pipelines here" in refused.message


def test_a_serviceaccounts_token_allows_what_its_role_says_and_nothing_else(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    admin = control_plane.api
    group = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["tekton.dev"], "resources": ["pipelineruns"], "verbs": ["create", "get"]}]
    metadata = {"name": "creator", "namespace": run_namespace}
    subject = {"kind": "ServiceAccount", **metadata}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "creator"}
    admin.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    admin.create({"apiVersion": group, "kind": "Role", "metadata": metadata, "rules": rules})
    admin.create(
        {
            "apiVersion": group,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [subject],
        }
    )

    creator = admin.as_service_account("creator", namespace=run_namespace)

    # The authorizer learns of a new binding a moment after it was stored.
    wait_until(lambda: _may_create(creator, run_namespace), what="the RoleBinding to hold")
    creator.create(pipeline_run("allowed"), namespace=run_namespace)
    assert creator.exists(pods.TEKTON, "PipelineRun", "allowed", namespace=run_namespace)
    with pytest.raises(ApiError) as refusal:
        creator.delete(pods.TEKTON, "PipelineRun", "allowed", namespace=run_namespace)
    assert refusal.value.code == 403
    assert f"system:serviceaccount:{run_namespace}:creator" in refusal.value.message
    with pytest.raises(ApiError, match="403"):
        creator.list("v1", "Secret", namespace=run_namespace)


def _may_create(api: Any, namespace: str) -> bool:
    review = api.create(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": "create",
                    "group": "tekton.dev",
                    "resource": "pipelineruns",
                }
            },
        }
    )
    return bool(review["status"]["allowed"])


def test_a_wrong_token_is_refused(control_plane: ControlPlane) -> None:
    answer = requests.get(
        f"{control_plane.server}/api/v1/namespaces",
        headers={"Authorization": "Bearer wrong"},
        verify=str(control_plane.pki.ca),
        timeout=10,
    )

    assert answer.status_code == 401
