"""The worker may do what it does, by the receiver's own adapter and a real token, and nothing else."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from receiver.clients.cluster import Cluster
from receiver.core.pipelinerun import KEY, MANAGED_BY
from receiver.errors import PermanentError
from receiver.settings import ClusterSettings
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane_suite.deployed import K8S, NAMESPACE, RUNS, Object
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane

RBAC = K8S / "base" / "rbac.yaml"


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
