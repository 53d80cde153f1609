"""What the admission policies judge: the objects of a run, genuine ones, and the wait until every policy judges.

The API server learns of a new policy, and of the objects that it takes as parameters, some time after it has stored them
(about a second). Until then it admits everything.
"""

import uuid
from collections.abc import Iterator

from tests.e2e.support.cluster import CHECKOUT, ApiError, Cluster, Object, eventually, kubectl, stand_in_images
from tests.e2e.support.runs import BATCH, CORE, TEKTON, manifest
from tests.e2e.support.work import NAMESPACE
from tests.support.scripts import load_script

databases = load_script("testing_databases")

UID = str(uuid.UUID(int=0xABCDEF0123456789))
OTHER_UID = str(uuid.UUID(int=0x123456789))
IN_FORCE_SECONDS = 60


def job(cluster: Cluster, kind: str) -> Object:
    """Return the Job that deploy-test-dependencies would create."""
    template = cluster.call("GET", f"{BATCH}/cronjobs/{kind}")
    made: Object = databases.job_manifest(kind, template, run="striv-e2e", uid=UID)
    return made


def dependents(kind: str) -> dict[str, Object]:
    """Return what deploy-test-dependencies would create for a Job, by collection and, for the policies, direction."""
    owner = {"metadata": {"uid": OTHER_UID}}
    made = databases.dependents(kind, owner, uid=UID, password="secret")
    return {manifest["metadata"]["name"] + "/" + resource: manifest for _, resource, manifest in made}


def run_body() -> Object:
    """Return a PipelineRun as the receiver makes it."""
    return manifest(revision="0" * 40, branch="master", repository_id="1")


def dry_run(identity: Cluster, collection: str, body: Object) -> None:
    """Create an object without creating it: authorization and admission judge it like any other."""
    identity.call("POST", collection, body, query={"dryRun": "All"})


def install_pipeline(cluster: Cluster) -> None:
    """Install k8s/striv, and return when its policies are in force."""
    stand_in_images([CHECKOUT / "k8s" / "striv"])
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CHECKOUT / "k8s" / "striv"))
    wait_until_in_force(cluster)


def wait_until_in_force(cluster: Cluster) -> None:
    """Return when every policy of k8s/striv refuses what only it refuses."""
    # Group system:masters leaves RBAC aside: the policies are to answer, whatever the ServiceAccount may do.
    account = cluster.impersonating(f"system:serviceaccount:{NAMESPACE}:test-dependencies-deployer", "system:masters")
    for policy, collection, body in _forbidden(cluster):

        def refuses(policy: str = policy, collection: str = collection, body: Object = body) -> bool:
            try:
                dry_run(account, collection, body)
            except ApiError as error:
                # A policy without its parameters refuses everything, the genuine too.
                return f"'{policy}'" in error.message and "no params found" not in error.message
            return False

        eventually(refuses, what=f"{policy} is in force", seconds=IN_FORCE_SECONDS)


def _forbidden(cluster: Cluster) -> Iterator[tuple[str, str, Object]]:
    for kind in ("mysql", "postgres"):
        hostile_job = job(cluster, kind)
        hostile_job["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/busybox:1.36.1"
        yield "striv-ci-database-jobs", f"{BATCH}/jobs", hostile_job
    secret = dependents("mysql")[f"mysql-{UID}/secrets"]
    secret["metadata"]["name"] = "other"
    yield "striv-ci-database-dependents", f"{CORE}/secrets", secret
    run = run_body()
    run["spec"]["taskRunTemplate"]["serviceAccountName"] = "default"
    yield "striv-ci-pipelineruns", f"{TEKTON}/pipelineruns", run
    run = run_body()
    run["spec"]["params"][0]["value"] = "$(context.pipelineRun.name)"
    yield "striv-ci-params", f"{TEKTON}/pipelineruns", run
