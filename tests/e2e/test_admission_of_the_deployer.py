"""What the ServiceAccount that makes databases could do if its code were not ours: nothing more.

Each request is sent with a real token and as a dry run, which passes authorization and admission like any other.
"""

from typing import Any

import pytest

from tests.e2e.support.admission import OTHER_UID, UID, databases, dependents, dry_run, job, wait_until_in_force
from tests.e2e.support.cluster import ApiError, Cluster, Object, eventually
from tests.e2e.support.refusals import SECRET_REF, TOKEN, Change, changed, refusal
from tests.e2e.support.runs import BATCH, CORE, NETWORKING, TEKTON
from tests.e2e.support.work import NAMESPACE

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def deployer(cluster: Cluster) -> Cluster:
    """The ServiceAccount of the two tasks that handle databases."""
    return cluster.as_service_account(NAMESPACE, "test-dependencies-deployer")


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
    "a finalizer that orphans": lambda j: j["metadata"].update(finalizers=["orphan"]),
    "a finalizer on the pod": lambda j: j["spec"]["template"]["metadata"].update(finalizers=["example.com/stay"]),
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


LEAVING = [{}, {"propagationPolicy": "Orphan"}, {"orphanDependents": "true"}]


@pytest.mark.parametrize("how", LEAVING, ids=str)
def test_the_deployer_may_not_leave_behind_what_belongs_to_a_job(
    how: dict[str, str], cluster: Cluster, deployer: Cluster
) -> None:
    path = f"{BATCH}/jobs/mysql-{UID}"
    # Without its owner, which does not exist: the Job would be collected as garbage meanwhile.
    cluster.call(
        "POST", f"{BATCH}/jobs", changed(job(cluster, "mysql"), lambda j: j["metadata"].pop("ownerReferences"))
    )
    try:
        with pytest.raises(ApiError, match="striv-ci-database-deletions"):
            deployer.call("DELETE", path, query={**how, "dryRun": "All"})
        deployer.call("DELETE", path, query={"propagationPolicy": "Background", "dryRun": "All"})
    finally:
        cluster.delete(path)
        eventually(lambda: cluster.get(path) is None, what="the Job is gone", seconds=30)


@pytest.mark.parametrize("missing", ["mysql", "postgres"])
def test_the_deployer_may_create_no_job_at_all_while_a_template_is_missing(
    missing: str, cluster: Cluster, deployer: Cluster
) -> None:
    bodies = {kind: job(cluster, kind) for kind in ("mysql", "postgres")}
    hostile = changed(bodies[missing], HOSTILE_JOBS["another image"])
    template = cluster.call("GET", f"{BATCH}/cronjobs/{missing}")

    def refused() -> bool:
        try:
            dry_run(deployer, f"{BATCH}/jobs", hostile)
        except ApiError as error:
            return "no params found" in error.message
        return False

    cluster.call("DELETE", f"{BATCH}/cronjobs/{missing}")
    try:
        eventually(refused, what="the policy misses the template", seconds=30)
    finally:
        kept = {name: template["metadata"][name] for name in ("name", "namespace", "labels")}
        cluster.call("POST", f"{BATCH}/cronjobs", {**template, "metadata": kept})
        wait_until_in_force(cluster)
    dry_run(deployer, f"{BATCH}/jobs", bodies[missing])


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
