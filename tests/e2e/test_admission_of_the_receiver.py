"""What whoever may create runs could do if it were not the receiver: create the receiver's runs, and no others.

Each request is sent with a real token and as a dry run, which passes authorization and admission like any other.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.support.admission import OTHER_UID, UID, databases, dry_run, run_body
from tests.e2e.support.cluster import Cluster, Object, eventually, kubectl
from tests.e2e.support.refusals import SECRET_REF, TOKEN, Change, changed, refusal
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


def spec_of(body: Any, task: str) -> Any:
    """Return the taskRunSpecs entry of a task, made if needed."""
    specs = body["spec"]["taskRunSpecs"]
    found = [spec for spec in specs if spec["pipelineTaskName"] == task]
    if not found:
        found = [{"pipelineTaskName": task}]
        specs.extend(found)
    return found[0]


def pod_template(body: Any) -> Any:
    """Return the podTemplate of all tasks."""
    return body["spec"]["taskRunTemplate"]["podTemplate"]


def workspace(body: Any, **source: Any) -> None:
    """Give the workspace another source."""
    body["spec"]["workspaces"] = [{"name": "striv-workspace", **source}]


INLINE = {"tasks": [{"name": "t", "taskSpec": {"steps": [{"name": "s", "image": "x:1", "command": ["true"]}]}}]}
STOLEN = {"name": "stolen", "secret": {"secretName": "other"}}
WORK, OWN_FOLDER = {"claimName": "striv-work"}, "$(context.pipelineRun.uid)"
CLAIM: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
HOSTILE_RUNS: dict[str, Change] = {
    "tasks of its own": lambda r: (r["spec"].pop("pipelineRef"), r["spec"].update(pipelineSpec=INLINE)),
    "another Pipeline": lambda r: r["spec"].update(pipelineRef={"name": "other"}),
    "a Pipeline from elsewhere": lambda r: r["spec"].update(
        pipelineRef={"resolver": "git", "params": [{"name": "url", "value": "https://example.com"}]}
    ),
    "the deployer for all tasks": lambda r: r["spec"]["taskRunTemplate"].update(
        serviceAccountName="test-dependencies-deployer"
    ),
    "the deployer for tests": lambda r: spec_of(r, "test-backend").update(
        serviceAccountName="test-dependencies-deployer"
    ),
    "another ServiceAccount": lambda r: spec_of(r, "deploy-test-dependencies").update(serviceAccountName="default"),
    "no ServiceAccount": lambda r: r["spec"]["taskRunTemplate"].pop("serviceAccountName"),
    "an automatic token": lambda r: pod_template(r).update(automountServiceAccountToken=True),
    "a token for tests": lambda r: spec_of(r, "test-backend").update(
        podTemplate={"automountServiceAccountToken": True}
    ),
    "volumes": lambda r: pod_template(r).update(volumes=[STOLEN]),
    "volumes for a task": lambda r: spec_of(r, "test-backend").update(podTemplate={"volumes": [STOLEN]}),
    "environment": lambda r: pod_template(r).update(env=[{"name": "PIP_INDEX_URL", "value": "https://example.com"}]),
    "environment from a Secret": lambda r: pod_template(r).update(env=[SECRET_REF]),
    "the host's network": lambda r: pod_template(r).update(hostNetwork=True),
    "names for addresses": lambda r: pod_template(r).update(
        hostAliases=[{"ip": "192.0.2.1", "hostnames": ["github.com"]}]
    ),
    "pull secrets": lambda r: pod_template(r).update(imagePullSecrets=[{"name": "other"}]),
    "other steps": lambda r: spec_of(r, "test-backend").update(
        stepSpecs=[{"name": "test", "computeResources": {"limits": {"memory": "4Gi"}}}]
    ),
    "no workspace": lambda r: r["spec"].pop("workspaces"),
    "the cache as workspace": lambda r: workspace(
        r, persistentVolumeClaim={"claimName": "striv-cache"}, subPath=OWN_FOLDER
    ),
    "the folders of all runs": lambda r: workspace(r, persistentVolumeClaim=WORK),
    "the folders of all runs by an empty path": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=""),
    "the folders of all runs by a path": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath="."),
    "the folder of another run": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=OTHER_UID),
    "a folder that a param names": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath="$(params.branch)"),
    "a folder below its own": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=f"{OWN_FOLDER}/source"),
    "a folder above its own": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=f"{OWN_FOLDER}/.."),
    "another claim": lambda r: workspace(r, persistentVolumeClaim={"claimName": "other"}, subPath=OWN_FOLDER),
    "a read-only workspace": lambda r: workspace(
        r, persistentVolumeClaim={**WORK, "readOnly": True}, subPath=OWN_FOLDER
    ),
    "a Secret beside the claim": lambda r: workspace(
        r, persistentVolumeClaim=WORK, subPath=OWN_FOLDER, secret={"secretName": "other"}
    ),
    "its own folder under another name": lambda r: r["spec"].update(
        workspaces=[{"name": "other", "persistentVolumeClaim": WORK, "subPath": OWN_FOLDER}]
    ),
    "an empty folder as workspace": lambda r: workspace(r, emptyDir={}),
    "a claim of its own": lambda r: workspace(r, volumeClaimTemplate={"spec": CLAIM}),
    "a Secret as workspace": lambda r: workspace(r, secret={"secretName": "other"}),
    "a ConfigMap as workspace": lambda r: workspace(r, configMap={"name": "other"}),
    "a projected token as workspace": lambda r: workspace(r, projected=TOKEN["projected"]),
    "a copy of the cache": lambda r: workspace(
        r,
        volumeClaimTemplate={"spec": {**CLAIM, "dataSource": {"kind": "PersistentVolumeClaim", "name": "striv-cache"}}},
    ),
    "a volume of its choice": lambda r: workspace(r, volumeClaimTemplate={"spec": {**CLAIM, "volumeName": "pv-1"}}),
    "two workspaces": lambda r: r["spec"]["workspaces"].append({"name": "other", "emptyDir": {}}),
    "another manager": lambda r: r["spec"].update(managedBy="example.com/other"),
    "the label of a database": lambda r: r["metadata"]["labels"].update({databases.RUN_LABEL: UID}),
}


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
