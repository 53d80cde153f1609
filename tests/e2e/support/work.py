"""The claims in which runs work and keep their dependencies, as nobody else sees them: all folders of all runs."""

import json

from tests.e2e.support.cluster import Cluster, Object, eventually, kubectl

NAMESPACE = "striv-ci"
BATCH = f"/apis/batch/v1/namespaces/{NAMESPACE}"
POD = "e2e-claims"
CLAIMS = {"work": "striv-work", "cache": "striv-cache"}
EVERYTHING_IS_OLD = "-1"


def _pod(image: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "serviceAccountName": "striv-ci",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "look",
                    "image": image,
                    "command": ["sleep", "infinity"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": name, "mountPath": f"/{name}", "readOnly": True} for name in CLAIMS],
                }
            ],
            "volumes": [
                {"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in CLAIMS.items()
            ],
        },
    }


def start_looking(cluster: Cluster) -> None:
    """Start the pod that looks, and wait until it runs. It needs the pipeline to be installed."""
    job = cluster.call("GET", f"{BATCH}/cronjobs/prune-work")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(_pod(container["image"])))

    def runs() -> bool:
        return bool(
            (cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}") or {}).get("status", {}).get("phase")
            == "Running"
        )

    eventually(runs, what="the pod that looks at the claims runs", seconds=60)


def _list(folder: str) -> list[str] | None:
    script = 'if [ -d "$1" ]; then find "$1" -mindepth 1 -maxdepth 1; else echo none; fi'
    found = kubectl("exec", "-n", NAMESPACE, POD, "--", "sh", "-c", script, "sh", folder).splitlines()
    return None if found == ["none"] else [path.removeprefix(f"{folder}/") for path in found]


def folder_of(uid: str) -> list[str] | None:
    """Return the names in the folder of a run; None when it has no folder."""
    return _list(f"/work/{uid}")


def scope_of_cache(scope: str) -> list[str]:
    """Return the names in a folder of the cache."""
    return _list(f"/cache/{scope}") or []


def clean_up(cluster: Cluster, name: str) -> None:
    """Run the hourly clean-up now, as if every folder were old, and wait until it has succeeded."""
    spec = cluster.call("GET", f"{BATCH}/cronjobs/prune-work")["spec"]["jobTemplate"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    for variable in container["env"]:
        if variable["name"] == "OLDER_THAN_MINUTES":
            variable["value"] = EVERYTHING_IS_OLD
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    cluster.call("POST", f"{BATCH}/jobs", job)

    def done() -> Object | None:
        conditions = cluster.call("GET", f"{BATCH}/jobs/{name}").get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)

    try:
        condition = eventually(done, what="the clean-up is done", seconds=60)
        assert condition["type"] == "Complete", condition
    finally:
        cluster.delete(f"{BATCH}/jobs/{name}")
