"""Pod Security admits the receiver's pod, and no weaker one."""

import copy
from collections.abc import Callable

import pytest

from tests.controlplane.api import ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane_suite.deployed import NAMESPACE, Object
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane


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
