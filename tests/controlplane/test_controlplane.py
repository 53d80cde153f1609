"""The control plane is a real one: what it refuses, makes of a PipelineRun, and survives."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.controlplane import __main__ as command_line
from tests.controlplane import fixtures, pods
from tests.controlplane.api import ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until

pytestmark = pytest.mark.controlplane

Object = dict[str, Any]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SECURE_STEP = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def task(name: str, **more: Any) -> Object:
    """Return a Pipeline's task of one step, with a command: Tekton would ask an image registry otherwise."""
    step = {
        "name": "only",
        "image": "example.invalid/image:1",
        "command": ["true"],
        "securityContext": SECURE_STEP,
    }
    spec = {"steps": [step], **more.pop("taskSpec", {})}
    return {"name": name, "taskSpec": spec, **more}


def pipeline_run(name: str, *tasks: Object, finally_: tuple[Object, ...] = (), **spec: Any) -> Object:
    """Return a PipelineRun with its Pipeline inside."""
    pipeline = {"tasks": list(tasks) or [task("build")], "finally": list(finally_)}
    return {
        "apiVersion": pods.TEKTON,
        "kind": "PipelineRun",
        "metadata": {"name": name},
        "spec": {"pipelineSpec": pipeline, **spec},
    }


# ---------------------------------------------------------------- admission
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


# ---------------------------------------------------------------- runs
def test_a_run_gets_a_taskrun_and_a_pod_for_each_task_that_can_start(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    api.create(
        pipeline_run("fan", task("one"), task("two"), task("after", runAfter=["one"])),
        namespace=run_namespace,
    )

    wait_until(lambda: len(pods.run_pods(api, run_namespace, "fan")) == 2, what="two pods")

    found = pods.run_pods(api, run_namespace, "fan")
    assert {pod["metadata"]["labels"][pods.TASK_LABEL] for pod in found} == {"one", "two"}
    assert {pod["status"]["phase"] for pod in found} == {"Pending"}
    assert set(pods.task_runs(api, run_namespace, "fan")) == {"one", "two"}


def test_a_run_whose_tasks_all_succeed_ends_succeeded_and_hands_results_on(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    produce = task("produce", taskSpec={"results": [{"name": "commit"}]})
    consume = task(
        "consume",
        taskSpec={"params": [{"name": "commit"}]},
        params=[{"name": "commit", "value": "$(tasks.produce.results.commit)"}],
    )
    api.create(pipeline_run("good", produce, consume, finally_=(task("cleanup"),)), namespace=run_namespace)

    run = pods.finish_run(api, run_namespace, "good", results={"produce": {"commit": "c0ffee"}})

    found = pods.task_runs(api, run_namespace, "good")
    assert (pods.succeeded(run)["status"], pods.succeeded(run)["reason"]) == ("True", "Succeeded")
    assert set(found) == {"produce", "consume", "cleanup"}
    assert found["consume"]["spec"]["params"] == [{"name": "commit", "value": "c0ffee"}]


def test_a_run_with_a_failing_task_ends_failed_and_still_runs_its_finally_tasks(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    tasks = [task("prepare"), task("test", runAfter=["prepare"]), task("never", runAfter=["test"])]
    api.create(pipeline_run("bad", *tasks, finally_=(task("cleanup"),)), namespace=run_namespace)

    run = pods.finish_run(api, run_namespace, "bad", failing_task="test")

    outcomes = {
        name: pods.succeeded(each)["status"] for name, each in pods.task_runs(api, run_namespace, "bad").items()
    }
    assert (pods.succeeded(run)["status"], pods.succeeded(run)["reason"]) == ("False", "Failed")
    assert outcomes == {"prepare": "True", "test": "False", "cleanup": "True"}


def test_a_run_whose_pods_run_is_running(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    api.create(pipeline_run("at-work"), namespace=run_namespace)

    pods.start_run(api, run_namespace, "at-work")

    reason = wait_until(
        lambda: pods.succeeded(pods.task_runs(api, run_namespace, "at-work")["build"]).get("reason") == "Running",
        what="the TaskRun to run",
    )
    assert reason


def test_pods_of_runs_are_admitted_where_pod_security_is_restricted(control_plane: ControlPlane) -> None:
    api, namespace = control_plane.api, "restricted"
    fixtures.make_namespace(api, namespace, labels=RESTRICTED)
    api.create(pipeline_run("secure"), namespace=namespace)

    run = pods.finish_run(api, namespace, "secure")

    assert pods.succeeded(run)["status"] == "True"
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "privileged"},
                "spec": {
                    "containers": [
                        {"name": "x", "image": "x:1", "securityContext": {"privileged": True}},
                    ]
                },
            },
            namespace=namespace,
        )


# ---------------------------------------------------------------- controllers
def test_the_dependents_of_a_deleted_run_are_collected(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    api.create(pipeline_run("short-lived"), namespace=run_namespace)
    (pod,) = wait_until(lambda: pods.run_pods(api, run_namespace, "short-lived"), what="the pod")
    (task_run,) = pods.task_runs(api, run_namespace, "short-lived").values()

    api.delete(pods.TEKTON, "PipelineRun", "short-lived", namespace=run_namespace)

    api.wait_gone(pods.TEKTON, "TaskRun", task_run["metadata"]["name"], namespace=run_namespace)
    api.wait_gone("v1", "Pod", pod["metadata"]["name"], namespace=run_namespace)


def test_the_volume_claim_of_a_deleted_run_is_collected(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    build = task("build", workspaces=[{"name": "source"}], taskSpec={"workspaces": [{"name": "source"}]})
    run = pipeline_run("with-volume", build, workspaces=[{"name": "source", "volumeClaimTemplate": {"spec": claim}}])
    run["spec"]["pipelineSpec"]["workspaces"] = [{"name": "source"}]
    api.create(run, namespace=run_namespace)
    wait_until(lambda: pods.run_pods(api, run_namespace, "with-volume"), what="the pod")
    (volume_claim,) = api.list("v1", "PersistentVolumeClaim", namespace=run_namespace)

    api.delete(pods.TEKTON, "PipelineRun", "with-volume", namespace=run_namespace)

    api.wait_gone("v1", "PersistentVolumeClaim", volume_claim["metadata"]["name"], namespace=run_namespace)


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


# ---------------------------------------------------------------- outages
def test_the_api_server_returns_with_its_data_after_an_outage(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    api.create(pipeline_run("survivor"), namespace=run_namespace)

    with control_plane.outage("kube-apiserver"):
        assert not control_plane.running()["kube-apiserver"]
        with pytest.raises(requests.ConnectionError):
            api.get(pods.TEKTON, "PipelineRun", "survivor", namespace=run_namespace)

    assert api.exists(pods.TEKTON, "PipelineRun", "survivor", namespace=run_namespace)
    assert pods.succeeded(pods.finish_run(api, run_namespace, "survivor", seconds=90))["status"] == "True"


def test_nothing_is_admitted_while_tektons_webhook_is_away(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api

    with control_plane.outage("tekton-webhook"), pytest.raises(ApiError) as refusal:
        api.create(pipeline_run("unlucky"), namespace=run_namespace)

    assert refusal.value.code == 500
    assert "failed calling webhook" in refusal.value.message
    api.create(pipeline_run("unlucky"), namespace=run_namespace)


def test_a_run_created_while_tektons_controller_is_away_starts_when_it_returns(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    control_plane.stop_component("tekton-controller")
    try:
        api.create(pipeline_run("patient"), namespace=run_namespace)
        assert not pods.task_runs(api, run_namespace, "patient")
    finally:
        control_plane.start_component("tekton-controller")

    assert pods.succeeded(pods.finish_run(api, run_namespace, "patient"))["status"] == "True"


def test_a_stopped_api_server_does_not_answer_until_it_is_continued(control_plane: ControlPlane) -> None:
    url, verify = f"{control_plane.server}/livez", str(control_plane.pki.ca)
    control_plane.kill_component("kube-apiserver", signal.SIGSTOP)
    try:
        with pytest.raises(requests.Timeout):
            requests.get(url, verify=verify, timeout=0.3)
    finally:
        control_plane.kill_component("kube-apiserver", signal.SIGCONT)

    assert requests.get(url, verify=verify, timeout=30).text == "ok"


# ---------------------------------------------------------------- for people
def test_kubectl_works_with_the_kubeconfig(control_plane: ControlPlane) -> None:
    answer = subprocess.run(
        [control_plane.programs["kubectl"], "auth", "whoami"],
        env=os.environ | control_plane.environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.search(r"^Groups +\[system:masters ", answer.stdout, re.MULTILINE)


def test_up_leaves_a_control_plane_that_down_removes(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path / "state")]

    assert command_line.main(["status", *state]) == 1
    assert command_line.main(["up", *state]) == 0
    try:
        assert f"export KUBECONFIG={tmp_path}/state/kubeconfig" in capsys.readouterr().out
        assert command_line.main(["status", *state]) == 0
        other = ControlPlane.attach(tmp_path / "state")
        assert other
        assert other.server != control_plane.server
        other.kill_component("kube-controller-manager")
        assert command_line.main(["status", *state]) == 1
        assert command_line.main(["up", *state]) == 0
        assert command_line.main(["status", *state]) == 0
    finally:
        assert command_line.main(["down", *state]) == 0
    assert not (tmp_path / "state" / "kubeconfig").exists()
    assert not any(other.running().values())
