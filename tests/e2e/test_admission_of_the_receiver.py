"""What whoever may create runs could do if it were not the receiver: create the receiver's runs, and no others.

Each request is sent with a real token and as a dry run, which passes authorization and admission like any other.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.support.admission import dry_run, run_body
from tests.e2e.support.cluster import Cluster, eventually, kubectl
from tests.e2e.support.hostile_runs import HOSTILE_RUNS
from tests.e2e.support.refusals import changed, refusal
from tests.e2e.support.runs import CORE, TEKTON
from tests.e2e.support.work import NAMESPACE

pytestmark = pytest.mark.e2e

CREATOR = """
apiVersion: v1
kind: Namespace
metadata: {name: striv-e2e-account}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: creator, namespace: striv-e2e-account}
---
# More than the receiver has: the policy must hold where RBAC does not.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: e2e-creator, namespace: striv-ci}
rules:
- {apiGroups: [tekton.dev], resources: [pipelineruns, taskruns], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: e2e-creator, namespace: striv-ci}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: e2e-creator}
subjects: [{kind: ServiceAccount, name: creator, namespace: striv-e2e-account}]
"""


@pytest.fixture(scope="module")
def receiver(cluster: Cluster) -> Iterator[Cluster]:
    """A ServiceAccount in a namespace of its own, like that of the receiver's worker: the policy knows neither by name."""
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=CREATOR)
        account = cluster.as_service_account("striv-e2e-account", "creator")
        # Otherwise a request right after the Role would be refused by RBAC, and say nothing of the policy.
        eventually(lambda: may_create(account, "taskruns"), what="the account's rights", seconds=30)
        yield account
    finally:
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=CREATOR)


def may_create(identity: Cluster, resource: str) -> bool:
    """Tell whether RBAC lets an identity create one of Tekton's resources where runs live."""
    asked = {"namespace": NAMESPACE, "verb": "create", "group": "tekton.dev", "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = identity.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def test_the_receiver_may_create_the_genuine_run(receiver: Cluster) -> None:
    dry_run(receiver, f"{TEKTON}/pipelineruns", run_body())


def test_the_receiver_may_create_a_run_that_waits(receiver: Cluster) -> None:
    dry_run(
        receiver,
        f"{TEKTON}/pipelineruns",
        changed(run_body(), lambda r: r["spec"].update(status="PipelineRunPending")),
    )


@pytest.mark.parametrize("variant", HOSTILE_RUNS)
def test_the_receiver_may_not_create_a_run_with(variant: str, receiver: Cluster) -> None:
    body = changed(run_body(), HOSTILE_RUNS[variant])

    refused = refusal(receiver, f"{TEKTON}/pipelineruns", body)

    assert "striv-ci-pipelineruns" in refused.message, refused


EXPANDABLE = [
    "$(id)",
    "$(touch${IFS}pwned)",
    "$(PROTECTED_BRANCH)",
    "$(params.protected-branch)",
    "x$(context.pipelineRun.uid)",
]


@pytest.mark.parametrize("value", [*EXPANDABLE, ["$(id)"], {"key": "$(id)"}], ids=str)
def test_nobody_may_create_a_run_with_a_param_that_would_be_expanded(
    value: object, cluster: Cluster, receiver: Cluster
) -> None:
    """Git allows branches of such names."""
    body = changed(run_body(), lambda r: r["spec"]["params"].append({"name": "other", "value": value}))

    for identity in (cluster, receiver):
        assert "striv-ci-params" in refusal(identity, f"{TEKTON}/pipelineruns", body).message


def test_the_receiver_may_not_create_a_run_of_an_old_version(receiver: Cluster) -> None:
    body = {
        "apiVersion": "tekton.dev/v1beta1",
        "kind": "PipelineRun",
        "metadata": {"name": "old", "namespace": NAMESPACE},
        "spec": {"pipelineRef": {"name": "deploy-striv"}, "serviceAccountName": "striv-ci"},
    }

    refused = refusal(receiver, TEKTON.replace("/v1/", "/v1beta1/") + "/pipelineruns", body)

    assert "striv-ci-pipelineruns" in refused.message, refused


def test_the_receiver_may_not_create_a_taskrun(receiver: Cluster) -> None:
    body = {
        "apiVersion": "tekton.dev/v1",
        "kind": "TaskRun",
        "metadata": {"name": "t", "namespace": NAMESPACE},
        "spec": {"taskRef": {"name": "checkout"}, "serviceAccountName": "test-dependencies-deployer"},
    }

    assert "striv-ci-pipelineruns" in refusal(receiver, f"{TEKTON}/taskruns", body).message


def test_a_privileged_pod_is_refused_even_to_an_administrator(cluster: Cluster) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "c", "image": "x:1", "securityContext": {"privileged": True}}]},
    }

    assert 'violates PodSecurity "restricted' in refusal(cluster, f"{CORE}/pods", body).message
