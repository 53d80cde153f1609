"""Every file of k8s/ and config/ is accepted by the real API server, with Tekton's admission, as it would be for a user."""

import copy
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.clients.cluster import Cluster
from receiver.core.pipelinerun import KEY, MANAGED_BY
from receiver.errors import PermanentError
from receiver.settings import ClusterSettings
from tests.controlplane.api import Api, ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_default_account
from tests.controlplane.waiting import wait_until

pytestmark = pytest.mark.controlplane

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))
RBAC = K8S / "base" / "rbac.yaml"
NAMESPACE, RUNS = "striv-receiver", "striv-ci"

Object = dict[str, Any]


def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the administrator of the control plane."""
    return subprocess.run(
        [plane.programs["kubectl"], *arguments],
        env={**os.environ, **plane.environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def build(plane: ControlPlane, folder: Path) -> list[Object]:
    """Return the objects that `kubectl kustomize` makes of a folder."""
    result = kubectl(plane, "kustomize", str(folder))
    assert result.returncode == 0, result.stderr
    return [found for found in yaml.safe_load_all(result.stdout) if found]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]


@pytest.fixture(scope="module")
def namespaces(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with both namespaces, in which a dry run can then be made."""
    for file in (K8S / "base" / "namespace.yaml", K8S / "striv" / "namespace.yaml"):
        result = kubectl(control_plane, "apply", "--server-side", "--force-conflicts", "-f", str(file))
        assert result.returncode == 0, result.stderr
    for name in (NAMESPACE, RUNS):
        make_default_account(control_plane.api, name)
    return control_plane


@pytest.fixture(scope="module")
def installed(namespaces: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with k8s/base applied for good; its Deployment is deleted after the tests."""
    result = kubectl(
        namespaces, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", str(K8S / "base")
    )
    assert result.returncode == 0, result.stderr
    yield namespaces
    namespaces.api.delete("apps/v1", "Deployment", "receiver", namespace=NAMESPACE)


# ---------------------------------------------------------------- admission
@pytest.mark.parametrize("folder", [K8S / "striv", K8S / "base", *OVERLAYS], ids=lambda path: path.name)
def test_the_api_server_accepts_all_of_it_strictly_and_without_a_warning(
    namespaces: ControlPlane, folder: Path
) -> None:
    result = kubectl(
        namespaces,
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", str(folder)),
    )

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == len(build(namespaces, folder))


def test_the_template_of_a_run_is_accepted_strictly(namespaces: ControlPlane) -> None:
    for file in sorted((ROOT / "config" / "pipelineruns").glob("*.yaml")):
        result = kubectl(namespaces, "create", "--dry-run=server", "--validate=strict", "-f", str(file))
        assert result.returncode == 0, result.stderr


# ---------------------------------------------------------------- kustomize
def referred(pod: Object) -> dict[str, set[str]]:
    """Return what a pod refers to by name: kind -> names."""
    volumes = pod["volumes"]
    return {
        "ConfigMap": {v["configMap"]["name"] for v in volumes if "configMap" in v},
        "PersistentVolumeClaim": {
            v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
        },
        "ServiceAccount": {pod["serviceAccountName"]},
    }


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_every_name_leads_to_an_object_of_the_same_namespace(control_plane: ControlPlane, folder: Path) -> None:
    objects = build(control_plane, folder)
    there = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()

    for kind, names in referred(pod).items():
        assert {(kind, NAMESPACE, name) for name in names} <= there
    assert {o["metadata"]["name"] for o in of_kind(objects, "ConfigMap")} == referred(pod)["ConfigMap"]
    assert {o["metadata"]["name"] for o in of_kind(objects, "PersistentVolumeClaim")} == (
        referred(pod)["PersistentVolumeClaim"]
    )
    (binding,) = of_kind(objects, "RoleBinding")
    (subject,) = binding["subjects"]
    assert binding["metadata"]["namespace"] == RUNS
    assert ("Role", RUNS, binding["roleRef"]["name"]) in there
    assert ("ServiceAccount", subject["namespace"], subject["name"]) in there
    (service,) = of_kind(objects, "Service")
    assert service["spec"]["selector"].items() <= labels
    for policy in of_kind(objects, "NetworkPolicy"):
        assert policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels
    for ingress in of_kind(objects, "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert (backend["name"], backend["port"]["name"]) == (
            service["metadata"]["name"],
            service["spec"]["ports"][0]["name"],
        )


def users_overlay(folder: Path, **more: Any) -> Path:
    """Write an overlay outside the checkout, as a user's own repository would have it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"resources": [os.path.relpath(K8S / "base", folder)], **more}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_one_entry_replaces_the_image_of_all_containers(control_plane: ControlPlane, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    image = {"name": "striv-receiver", "newName": "registry.example.com/ci/receiver", "digest": digest}

    objects = build(control_plane, users_overlay(tmp_path / "mine", images=[image]))

    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    images = {c["image"] for c in [*pod["initContainers"], *pod["containers"]]}
    assert images == {f"registry.example.com/ci/receiver@{digest}"}


def test_another_configuration_rolls_the_pod(control_plane: ControlPlane, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    generator = {
        "name": "receiver-config",
        "namespace": NAMESPACE,
        "behavior": "replace",
        "files": ["receiver.yaml"],
    }
    names = set()
    for level in ("info", "debug"):
        users_overlay(folder, configMapGenerator=[generator])
        shutil.copy(ROOT / "config" / "receiver.yaml", folder)
        text = (folder / "receiver.yaml").read_text()
        assert "level: info" in text
        (folder / "receiver.yaml").write_text(text.replace("level: info", f"level: {level}"))

        objects = build(control_plane, folder)

        (deployment,) = of_kind(objects, "Deployment")
        config = next(v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "config")
        (stored,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == config["configMap"]["name"]]
        assert f"level: {level}" in stored["data"]["receiver.yaml"]
        names.add(config["configMap"]["name"])
    assert len(names) == 2


# ---------------------------------------------------------------- Pod Security
def weakened(change: Callable[[Object], None]) -> Callable[[Object], Object]:
    """Return a function that changes a copy of a pod."""

    def apply(pod: Object) -> Object:
        other = copy.deepcopy(pod)
        change(other)
        return other

    return apply


WEAKER: dict[str, Callable[[Object], None]] = {
    "root": lambda pod: pod["containers"][0]["securityContext"].update(runAsUser=0),
    "maybe root": lambda pod: pod["securityContext"].pop("runAsNonRoot"),
    "no seccomp": lambda pod: pod["securityContext"].pop("seccompProfile"),
    "escalation": lambda pod: pod["containers"][1]["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities": lambda pod: pod["initContainers"][0]["securityContext"].pop("capabilities"),
    "privileged": lambda pod: pod["containers"][0]["securityContext"].update(
        privileged=True, allowPrivilegeEscalation=True
    ),
    "host network": lambda pod: pod.update(hostNetwork=True),
    "host folder": lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
}


def pod_of_the_deployment(plane: ControlPlane) -> Object:
    deployment = plane.api.get("apps/v1", "Deployment", "receiver", namespace=NAMESPACE)
    template = deployment["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "receiver-", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    }


def test_pod_security_admits_the_pod_that_the_deployment_makes(installed: ControlPlane) -> None:
    found = wait_until(
        lambda: installed.api.list("v1", "Pod", namespace=NAMESPACE, labels="app.kubernetes.io/name=receiver"),
        what="the Deployment's pod",
    )

    assert found[0]["spec"]["serviceAccountName"] == "receiver"
    assert not [v for v in found[0]["spec"]["volumes"] if v["name"].startswith("kube-api-access")]
    assert installed.api.create(pod_of_the_deployment(installed), dry_run=True)


@pytest.mark.parametrize("change", WEAKER.values(), ids=WEAKER.keys())
def test_pod_security_refuses_a_weaker_pod(installed: ControlPlane, change: Callable[[Object], None]) -> None:
    pod = pod_of_the_deployment(installed)

    with pytest.raises(ApiError) as refusal:
        installed.api.create(weakened(lambda p: change(p["spec"]))(pod), dry_run=True)

    assert refusal.value.code == 403
    assert 'violates PodSecurity "restricted:latest"' in refusal.value.message


# ---------------------------------------------------------------- the worker's rights
def worker(plane: ControlPlane, namespace: str, folder: Path) -> Cluster:
    """Return the receiver's own adapter with a real token of the worker's ServiceAccount."""
    api = plane.api.as_service_account("receiver", namespace=NAMESPACE)
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "worker",
        "clusters": [{"name": "c", "cluster": {"server": api.server, "certificate-authority": str(api.ca_file)}}],
        "users": [{"name": "worker", "user": {"token": api.token}}],
        "contexts": [{"name": "worker", "context": {"cluster": "c", "user": "worker", "namespace": namespace}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    return Cluster(ClusterSettings(kubeconfig="kubeconfig", namespace=namespace), folder=folder, connections=2)


def run_manifest(namespace: str, name: str) -> Object:
    """Return a PipelineRun that the receiver would know as its own, held so that nothing starts."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": dict(MANAGED_BY),
        "annotations": {KEY: "key of " + name},
    }
    spec = {"pipelineRef": {"name": "deploy-striv"}, "status": "PipelineRunPending"}
    return {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": metadata, "spec": spec}


def pipeline_manifest(namespace: str) -> Object:
    step = {"name": "only", "image": "example.invalid/image:1", "command": ["true"]}
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "Pipeline",
        "metadata": {"name": "deploy-striv", "namespace": namespace},
        "spec": {"tasks": [{"name": "only", "taskSpec": {"steps": [step]}}]},
    }


CALLS: dict[tuple[str, str], Callable[[Cluster, str], object]] = {
    ("pipelineruns", "create"): lambda c, ns: c.create_run(run_manifest(ns, "created")),
    ("pipelineruns", "get"): lambda c, ns: c.get_run(ns, "there"),
    ("pipelineruns", "list"): lambda c, ns: c.list_runs(ns),
    ("pipelineruns", "watch"): lambda c, ns: next(iter(c.watch_runs(ns, "0"))),
    ("pipelines", "get"): lambda c, ns: c.get_pipeline(ns, "deploy-striv"),
    ("taskruns", "list"): lambda c, ns: c.list_taskruns(ns, "uid"),
}
"""Each right, and the call of the worker's that needs it."""


def worker_rules() -> list[Object]:
    role = next(o for o in yaml.safe_load_all(RBAC.read_text()) if o["kind"] == "Role")
    rules: list[Object] = role["rules"]
    return rules


def grant(api: Api, namespace: str, *, without: tuple[str, str] | None = None) -> None:
    """Give the worker its Role in another namespace, without one of its verbs."""
    rules = copy.deepcopy(worker_rules())
    for rule in rules:
        if without and without[0] in rule["resources"]:
            rule["verbs"].remove(without[1])
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "receiver", "namespace": namespace}
    api.create(
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [r for r in rules if r["verbs"]]}
    )
    api.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "receiver"},
            "subjects": [{"kind": "ServiceAccount", "name": "receiver", "namespace": NAMESPACE}],
        }
    )


def test_the_calls_of_the_worker_need_each_of_its_rights_and_no_other() -> None:
    rights = {(resource, verb) for rule in worker_rules() for resource in rule["resources"] for verb in rule["verbs"]}

    assert rights == set(CALLS)


@pytest.mark.parametrize(
    "missing", [None, *CALLS], ids=lambda right: "none" if right is None else " ".join(right[::-1])
)
def test_the_worker_can_do_its_work_and_misses_every_right_that_is_taken_away(
    installed: ControlPlane, run_namespace: str, tmp_path: Path, missing: tuple[str, str] | None
) -> None:
    installed.api.create(pipeline_manifest(run_namespace))
    installed.api.create(run_manifest(run_namespace, "there"))
    grant(installed.api, run_namespace, without=missing)
    cluster = worker(installed, run_namespace, tmp_path)
    # The authorizer learns of a new binding a moment after it was stored.
    for resource, verb in CALLS.keys() - {missing}:
        wait_until(partial(cluster.may, run_namespace, verb, resource), what=f"{verb} {resource}")

    for right, call in CALLS.items():
        if right != missing:
            call(cluster, run_namespace)
        else:
            with pytest.raises(PermanentError, match="HTTP 403") as refusal:
                call(cluster, run_namespace)
            assert f"system:serviceaccount:{NAMESPACE}:receiver" in str(refusal.value)
    cluster.close()


def test_nobody_gave_the_worker_more_than_its_role_says(installed: ControlPlane) -> None:
    identity = installed.api.as_service_account("receiver", namespace=NAMESPACE)

    def rules(namespace: str) -> set[tuple[str, str, str]]:
        review = identity.create(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectRulesReview",
                "metadata": {},
                "spec": {"namespace": namespace},
            }
        )
        return {
            (group, resource, verb)
            for rule in review["status"]["resourceRules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    # What every authenticated identity may: ask about itself.
    everybody = {
        ("authentication.k8s.io", "selfsubjectreviews", "create"),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
        ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
    }
    own = {("tekton.dev", resource, verb) for resource, verb in CALLS}
    wait_until(lambda: own <= rules(RUNS), what="the RoleBinding to hold")

    assert rules(RUNS) == everybody | own
    assert rules(NAMESPACE) == everybody
    assert rules("kube-system") == everybody
