"""What the identities of a run could do if their code were not ours: nothing more.

Each request is sent with a real token and as a dry run, which passes authorization and admission like any other.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.support.admission import OTHER_UID, UID, databases, dependents, dry_run, job, run_body
from tests.e2e.support.cluster import ApiError, Cluster, Object, eventually, kubectl
from tests.e2e.support.runs import BATCH, CORE, NETWORKING, TEKTON
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
Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def deployer(cluster: Cluster) -> Cluster:
    """The ServiceAccount of the two tasks that handle databases."""
    return cluster.as_service_account(NAMESPACE, "test-dependencies-deployer")


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


def refusal(identity: Cluster, collection: str, body: Object) -> ApiError:
    """Return the refusal of a creation that must be refused."""
    with pytest.raises(ApiError) as refused:
        dry_run(identity, collection, body)
    return refused.value


def changed(original: Object, change: Change) -> Object:
    """Return a changed copy."""
    body = copy.deepcopy(original)
    change(body)
    return body


def pod(body: Any) -> Any:
    """Return a Job's pod."""
    return body["spec"]["template"]["spec"]


def container(body: Any) -> Any:
    """Return a Job's container."""
    return pod(body)["containers"][0]


def add_volume(body: Any, volume: Object) -> None:
    """Mount a volume into a Job's container."""
    pod(body)["volumes"].append({"name": "stolen", **volume})
    container(body)["volumeMounts"].append({"name": "stolen", "mountPath": "/stolen"})


TOKEN = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
SECRET_REF = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "other", "key": "password"}}}
INIT_CONTAINER = {"name": "first", "image": "docker.io/library/mysql:8.4.7", "command": ["id"]}
HOSTILE_JOBS: dict[str, Change] = {
    "another image": lambda j: container(j).update(image="docker.io/library/busybox:1.36.1"),
    "another command": lambda j: container(j).update(command=["sh", "-c", "id"]),
    "other arguments": lambda j: container(j).update(args=["--init-file=/tmp/x"]),
    "the deployer's ServiceAccount": lambda j: pod(j).update(serviceAccountName="test-dependencies-deployer"),
    "an automatic token": lambda j: pod(j).update(automountServiceAccountToken=True),
    "a projected token": lambda j: add_volume(j, TOKEN),
    "a Secret as a volume": lambda j: add_volume(j, {"secret": {"secretName": "other"}}),
    "the cache": lambda j: add_volume(j, {"persistentVolumeClaim": {"claimName": "striv-cache"}}),
    "the folders of all runs": lambda j: add_volume(j, {"persistentVolumeClaim": {"claimName": "striv-work"}}),
    "a folder of the host": lambda j: add_volume(j, {"hostPath": {"path": "/"}}),
    "a ConfigMap as a volume": lambda j: add_volume(j, {"configMap": {"name": "striv-scripts"}}),
    "another run's Secret": lambda j: container(j).update(envFrom=[{"secretRef": {"name": f"mysql-{OTHER_UID}"}}]),
    "two Secrets": lambda j: container(j)["envFrom"].append({"secretRef": {"name": "other"}}),
    "no Secret": lambda j: container(j).pop("envFrom"),
    "a ConfigMap as environment": lambda j: container(j)["envFrom"].append({"configMapRef": {"name": "other"}}),
    "a Secret as a variable": lambda j: container(j)["env"].append(SECRET_REF),
    "a second container": lambda j: pod(j)["containers"].append(
        {"name": "two", "image": "docker.io/library/mysql:8.4.7"}
    ),
    "an init container": lambda j: pod(j).update(initContainers=[INIT_CONTAINER]),
    "root": lambda j: pod(j)["securityContext"].update(runAsUser=0, runAsNonRoot=False),
    "privileges": lambda j: container(j)["securityContext"].update(privileged=True, allowPrivilegeEscalation=True),
    "the host's network": lambda j: pod(j).update(hostNetwork=True),
    "a node of its choice": lambda j: pod(j).update(nodeName="node1"),
    "pull secrets": lambda j: pod(j).update(imagePullSecrets=[{"name": "other"}]),
    "no deadline": lambda j: j["spec"].pop("activeDeadlineSeconds"),
    "a longer deadline": lambda j: j["spec"].update(activeDeadlineSeconds=10**6),
    "no time to live": lambda j: j["spec"].pop("ttlSecondsAfterFinished"),
    "many pods": lambda j: j["spec"].update(parallelism=50),
    "retries": lambda j: j["spec"].update(backoffLimit=6),
    "suspension, which stops the deadline": lambda j: j["spec"].update(suspend=True),
    "no owner": lambda j: j["metadata"].pop("ownerReferences"),
    "another run as owner": lambda j: j["metadata"]["ownerReferences"][0].update(uid=OTHER_UID),
    "an owner that lives for ever": lambda j: j["metadata"]["ownerReferences"][0].update(
        apiVersion="v1", kind="Namespace"
    ),
    "a finalizer": lambda j: j["metadata"].update(finalizers=["example.com/stay"]),
    "another name": lambda j: j["metadata"].update(name="mysql"),
    "the labels of a task": lambda j: j["spec"]["template"]["metadata"]["labels"].update(
        {"tekton.dev/pipelineTask": "checkout"}
    ),
    "annotations on the pod": lambda j: j["spec"]["template"]["metadata"].update(annotations={"a": "b"}),
}


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_the_deployer_may_create_the_genuine_objects(kind: str, cluster: Cluster, deployer: Cluster) -> None:
    dry_run(deployer, f"{BATCH}/jobs", job(cluster, kind))
    for key, body in dependents(kind).items():
        collection = (
            f"{NETWORKING}/networkpolicies" if key.endswith("networkpolicies") else f"{CORE}/{key.split('/')[1]}"
        )
        dry_run(deployer, collection, body)


@pytest.mark.parametrize("variant", HOSTILE_JOBS)
def test_the_deployer_may_not_create_a_job_with(variant: str, cluster: Cluster, deployer: Cluster) -> None:
    body = changed(job(cluster, "mysql"), HOSTILE_JOBS[variant])

    refused = refusal(deployer, f"{BATCH}/jobs", body)

    assert "striv-ci-database-jobs" in refused.message, refused


def test_the_deployer_may_not_give_a_job_another_databases_content(cluster: Cluster, deployer: Cluster) -> None:
    body = changed(job(cluster, "mysql"), lambda j: j["metadata"].update(name=f"postgres-{UID}"))

    assert "striv-ci-database-jobs" in refusal(deployer, f"{BATCH}/jobs", body).message


TOKEN_OF = {"kubernetes.io/service-account.name": "striv-ci"}
HOSTILE_SECRETS: dict[str, Change] = {
    "a ServiceAccount's token": lambda s: (
        s.update(type="kubernetes.io/service-account-token"),
        s["metadata"].update(annotations=TOKEN_OF),
    ),
    "annotations": lambda s: s["metadata"].update(annotations=TOKEN_OF),
    "another name": lambda s: s["metadata"].update(name="other"),
    "another key": lambda s: s["stringData"].update(other="x"),
    "no owner": lambda s: s["metadata"].pop("ownerReferences"),
    "the run as owner": lambda s: s["metadata"]["ownerReferences"][0].update(
        apiVersion="tekton.dev/v1", kind="PipelineRun"
    ),
}
HOSTILE_SERVICES: dict[str, Change] = {
    "an external name": lambda s: s["spec"].update(type="ExternalName", externalName="example.com"),
    "a load balancer": lambda s: s["spec"].update(type="LoadBalancer"),
    "a node port": lambda s: s["spec"].update(type="NodePort"),
    "an external address": lambda s: s["spec"].update(externalIPs=["192.0.2.1"]),
    "another run's pods": lambda s: s["spec"]["selector"].update({databases.RUN_LABEL: OTHER_UID}),
    "any pods": lambda s: s["spec"].pop("selector"),
    "another port": lambda s: s["spec"].update(ports=[{"protocol": "TCP", "port": 3306, "targetPort": 22}]),
    "another name": lambda s: s["metadata"].update(name="kubernetes"),
    "no owner": lambda s: s["metadata"].pop("ownerReferences"),
}
HOSTILE_POLICIES: dict[str, Change] = {
    "every source": lambda n: n["spec"]["ingress"][0].pop("from"),
    "every port": lambda n: n["spec"]["ingress"][0].pop("ports"),
    "everything": lambda n: n["spec"].update(ingress=[{}]),
    "outgoing traffic": lambda n: n["spec"].update(policyTypes=["Ingress", "Egress"], egress=[{}]),
    "every pod": lambda n: n["spec"].update(podSelector={}),
    "other namespaces": lambda n: n["spec"]["ingress"][0]["from"][0].update(namespaceSelector={}),
    "addresses": lambda n: n["spec"]["ingress"][0].update({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
    "another run's tests": lambda n: n["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"].update(
        {"tekton.dev/pipelineRunUID": OTHER_UID}
    ),
    "another name": lambda n: n["metadata"].update(name="open"),
    "no owner": lambda n: n["metadata"].pop("ownerReferences"),
}
HOSTILE_DEPENDENTS = [
    *(("secrets", variant, change) for variant, change in HOSTILE_SECRETS.items()),
    *(("services", variant, change) for variant, change in HOSTILE_SERVICES.items()),
    *(("networkpolicies", variant, change) for variant, change in HOSTILE_POLICIES.items()),
]


@pytest.mark.parametrize(
    ("resource", "change"),
    [(r, c) for r, _, c in HOSTILE_DEPENDENTS],
    ids=[f"{r}-{v}" for r, v, _ in HOSTILE_DEPENDENTS],
)
def test_the_deployer_may_not_create_one_of(resource: str, change: Change, deployer: Cluster) -> None:
    body = changed(dependents("mysql")[f"mysql-{UID}/{resource}"], change)
    collection = f"{NETWORKING}/{resource}" if resource == "networkpolicies" else f"{CORE}/{resource}"

    refused = refusal(deployer, collection, body)

    assert "striv-ci-database-dependents" in refused.message, refused


def test_the_deployer_may_not_open_the_tests_to_the_internet(deployer: Cluster) -> None:
    body = changed(
        dependents("mysql")[f"mysql-{UID}-clients/networkpolicies"],
        lambda n: n["spec"].update(egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]),
    )

    assert "striv-ci-database-dependents" in refusal(deployer, f"{NETWORKING}/networkpolicies", body).message


def test_the_deployer_may_do_nothing_else(deployer: Cluster) -> None:
    forbidden = [
        ("POST", f"{CORE}/pods"),
        ("GET", f"{CORE}/secrets"),
        ("GET", f"{CORE}/secrets/any"),
        ("POST", f"{CORE}/serviceaccounts/test-dependencies-deployer/token"),
        ("POST", f"{TEKTON}/pipelineruns"),
        ("PATCH", f"{BATCH}/cronjobs/mysql"),
        ("GET", f"{BATCH}/cronjobs/prune-cache"),
        ("GET", f"{BATCH}/cronjobs/prune-work"),
        ("GET", f"{CORE}/configmaps/striv-scripts"),
        ("GET", "/api/v1/namespaces"),
    ]
    for method, path in forbidden:
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with pytest.raises(ApiError) as refused:
            deployer.call(method, path, {} if method != "GET" else None, content_type=content_type)
        assert refused.value.status == 403, (method, path, refused.value)


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
