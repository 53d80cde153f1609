# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Start (`deploy`) and remove (`delete`) the testing databases of one PipelineRun.

Each database is a Job made from the suspended CronJob of its name and owned by the PipelineRun; its Secret, Service and
NetworkPolicies are owned by the Job, so that deleting the Job, or the PipelineRun, deletes everything. Names end in the
PipelineRun's uid and begin with a letter, as names of Services must.

Standard library only, and one file however long: the image needs Python and nothing else, and pods mount single files that
cannot import each other (`-I`). It talks to the API server with the token that is mounted at /striv/api. Exits with the
reason as its last line, which `deploy` also stores as the result `problem`.
"""

import contextlib
import http.client
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]

API = Path("/striv/api")
RUN_LABEL = "striv-receiver.dev/pipeline-run-uid"
NAME_LABEL = "app.kubernetes.io/name"
PORTS = {"mysql": 3306, "postgres": 5432}
PASSWORDS = {"mysql": "MYSQL_ROOT_PASSWORD", "postgres": "POSTGRES_PASSWORD"}
ROOM_SECONDS = 1500
CALL_SECONDS = 15
ATTEMPTS = 5
# What a new attempt of the kubelet's cannot change.
HOPELESS = {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}


class ProblemError(Exception):
    """A reason for people why the databases are not there."""


class ApiError(Exception):
    """The API server's refusal, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class Cluster:
    """The few calls that are needed, in one namespace."""

    def __init__(self, *, host: str, namespace: str) -> None:
        self.host, self.namespace = host, namespace
        self.trust = ssl.create_default_context(cafile=str(API / "ca.crt"))

    def send(self, method: str, path: str, body: Object | None, timeout: float) -> http.client.HTTPResponse:
        """Send one request; raise ApiError for an answer of 300 or more."""
        connection = http.client.HTTPSConnection(self.host, context=self.trust, timeout=timeout)
        token = (API / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        if answer.status >= 300:
            text = answer.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["message"]
            raise ApiError(answer.status, text)
        return answer

    def call(self, method: str, api: str, resource: str, body: Object | None = None) -> Object:
        """Return the answer; repeat what the API server or the network may do better the next time."""
        path = f"/{api}/namespaces/{self.namespace}/{resource}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer: Object = json.loads(self.send(method, path, body, CALL_SECONDS).read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem: Exception = error
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
                problem = error
            else:
                return answer
            if attempt < ATTEMPTS:
                time.sleep(0.2 * 2**attempt)
        raise ProblemError(f"the API server does not answer: {problem}")

    def create(self, api: str, resource: str, body: Object) -> Object:
        """Create an object. One of the same name is what an earlier attempt created; of a Job, that is proved by its owner."""
        try:
            return self.call("POST", api, f"{resource}?fieldValidation=Strict", body)
        except ApiError as error:
            if error.status != 409:
                raise
        if resource != "jobs":
            # The token may not read it. Its name is its Job's, which was this run's own.
            return body
        existing = self.call("GET", api, f"{resource}/{body['metadata']['name']}")
        if owner_uid(existing) != owner_uid(body):
            raise ProblemError(f"{body['metadata']['name']} exists already and belongs to something else")
        return existing

    def watch_pods(self, selector: str, seconds: float) -> Iterator[list[Object]]:
        """Yield all pods of the selector now and after each change, for so many seconds, at least each two seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.call("GET", "api/v1", f"pods?labelSelector={selector}")
            pods = {pod["metadata"]["name"]: pod for pod in answer["items"]}
            yield list(pods.values())
            version = answer["metadata"]["resourceVersion"]
            query = f"labelSelector={selector}&watch=1&resourceVersion={version}&timeoutSeconds=2"
            try:
                for line in self.send("GET", f"/api/v1/namespaces/{self.namespace}/pods?{query}", None, CALL_SECONDS):
                    event = json.loads(line)
                    if event["type"] not in ("ADDED", "MODIFIED"):
                        break  # list again
                    pods[event["object"]["metadata"]["name"]] = event["object"]
                    yield list(pods.values())
            except (ApiError, OSError, http.client.HTTPException, ValueError):
                time.sleep(0.5)

    def print_log(self, pod: Object) -> None:
        """Print the last lines that a database wrote, if there are any."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/log?tailLines=30"
        try:
            print(self.send("GET", path, None, CALL_SECONDS).read().decode(errors="replace"), flush=True)
        except (ApiError, OSError, http.client.HTTPException) as error:
            print(f"(no log: {error})", flush=True)


def owner_uid(thing: Object) -> str:
    """Return the uid of an object's only owner."""
    return str(thing["metadata"]["ownerReferences"][0]["uid"])


def job_manifest(kind: str, template: Object, *, run: str, uid: str) -> Object:
    """Make the Job of a run from the CronJob that is its template."""
    spec = json.loads(json.dumps(template["spec"]["jobTemplate"]["spec"]))
    labels = {**spec["template"]["metadata"]["labels"], RUN_LABEL: uid}
    spec["template"]["metadata"]["labels"] = labels
    spec["template"]["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": f"{kind}-{uid}"}}]
    owner = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": run, "uid": uid}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{kind}-{uid}", "labels": labels, "ownerReferences": [owner]},
        "spec": spec,
    }


def dependents(kind: str, job: Object, *, uid: str, password: str) -> list[tuple[str, str, Object]]:
    """Return what belongs to a Job, each as API, resource and manifest.

    The two NetworkPolicies open the way between this run's back-end tests and this database; all else is closed
    by the namespace's own policies.
    """
    name = f"{kind}-{uid}"
    port = PORTS[kind]
    database = {NAME_LABEL: kind, RUN_LABEL: uid}
    tests = {"tekton.dev/pipelineRunUID": uid, "tekton.dev/pipelineTask": "test-backend"}
    ports = [{"protocol": "TCP", "port": port}]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}

    def manifest(api_version: str, manifest_kind: str, own_name: str, **content: Any) -> Object:
        metadata = {"name": own_name, "labels": database, "ownerReferences": [owner]}
        return {"apiVersion": api_version, "kind": manifest_kind, "metadata": metadata, **content}

    incoming = {
        "podSelector": {"matchLabels": database},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": tests}}], "ports": ports}],
    }
    outgoing = {
        "podSelector": {"matchLabels": tests},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": database}}], "ports": ports}],
    }
    service = {"selector": database, "ports": ports}
    networking = "apis/networking.k8s.io/v1"
    return [
        (
            "api/v1",
            "secrets",
            manifest("v1", "Secret", name, type="Opaque", stringData={PASSWORDS[kind]: password}),
        ),
        ("api/v1", "services", manifest("v1", "Service", name, spec=service)),
        (
            networking,
            "networkpolicies",
            manifest("networking.k8s.io/v1", "NetworkPolicy", name, spec=incoming),
        ),
        (
            networking,
            "networkpolicies",
            manifest("networking.k8s.io/v1", "NetworkPolicy", f"{name}-clients", spec=outgoing),
        ),
    ]


def is_ready(pod: Object) -> bool:
    """Tell whether the pod's readiness probe, an authenticated query, has succeeded."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def is_placed(pod: Object) -> bool:
    """Tell whether a node was found for the pod."""
    return bool(pod["spec"].get("nodeName"))


def describe_state(pod: Object | None) -> str:
    """Say what a database is waiting for, in one line."""
    if pod is None:
        return "it has no pod: the namespace's quota may be used up"
    status = pod.get("status", {})
    if not is_placed(pod):
        reasons = [c.get("message", "") for c in status.get("conditions", []) if c["type"] == "PodScheduled"]
        return "no node has room for it: " + "; ".join(reasons)
    for container in status.get("containerStatuses", []):
        for state, detail in container.get("state", {}).items():
            if state == "waiting":
                return f"{detail.get('reason', 'waiting')}: {detail.get('message', 'its container has not started')}"
            if state == "terminated":
                return f"it ended with exit code {detail['exitCode']} ({detail.get('reason', 'no reason given')})"
    return "it runs and does not answer a query"


def is_hopeless(pod: Object) -> bool:
    """Tell whether waiting on is pointless: the pod has ended, or its image or configuration cannot work."""
    status = pod.get("status", {})
    waiting = [c.get("state", {}).get("waiting", {}).get("reason") for c in status.get("containerStatuses", [])]
    return status.get("phase") in ("Failed", "Succeeded") or any(reason in HOPELESS for reason in waiting)


def wait_until_ready(
    snapshots: Iterator[list[Object]],
    *,
    kinds: list[str],
    ready_seconds: float,
    clock: Callable[[], float],
) -> None:
    """Return when each database is ready.

    Raises ProblemError, naming the database, when one ends, when one is not ready so many seconds after a node was
    found for it, or when the snapshots end.
    """
    placed_at: dict[str, float] = {}
    ready: set[str] = set()
    latest: dict[str, Object] = {}
    for pods in snapshots:
        latest = {pod["metadata"]["labels"][NAME_LABEL]: pod for pod in pods}
        for kind in kinds:
            pod = latest.get(kind)
            if pod is None:
                continue
            if is_ready(pod) and kind not in ready:
                ready.add(kind)
                print(f"{kind} is ready", flush=True)
            if is_hopeless(pod):
                evicted = pod["status"].get("reason")
                raise ProblemError(f"{kind} failed: {f'{evicted}, ' if evicted else ''}{describe_state(pod)}")
            if is_placed(pod):
                since = placed_at.setdefault(kind, clock())
                if kind not in ready and clock() - since > ready_seconds:
                    raise ProblemError(f"{kind} is not ready after {ready_seconds:g} s: {describe_state(pod)}")
        if ready == set(kinds):
            return
    missing = ", ".join(f"{kind}: {describe_state(latest.get(kind))}" for kind in kinds if kind not in ready)
    raise ProblemError(f"not ready after {ROOM_SECONDS} s: {missing}")


def deploy(cluster: Cluster, *, run: str, uid: str, password: str, ready_seconds: float) -> None:
    """Create both databases and wait until they answer."""
    for kind in PORTS:
        template = cluster.call("GET", "apis/batch/v1", f"cronjobs/{kind}")
        job = cluster.create("apis/batch/v1", "jobs", job_manifest(kind, template, run=run, uid=uid))
        for api, resource, manifest in dependents(kind, job, uid=uid, password=password):
            cluster.create(api, resource, manifest)
        print(f"created {kind}-{uid}", flush=True)
    selector = f"{RUN_LABEL}%3D{uid}"
    try:
        wait_until_ready(
            cluster.watch_pods(selector, ROOM_SECONDS),
            kinds=list(PORTS),
            ready_seconds=ready_seconds,
            clock=time.monotonic,
        )
    except ProblemError:
        for pod in next(cluster.watch_pods(selector, 1), []):
            print(f"last lines of {pod['metadata']['name']}:", flush=True)
            cluster.print_log(pod)
        raise


def delete(cluster: Cluster, *, uid: str) -> None:
    """Delete both Jobs, and with them what they own; try each, whatever becomes of the other."""
    problems = []
    for kind in PORTS:
        try:
            cluster.call("DELETE", "apis/batch/v1", f"jobs/{kind}-{uid}?propagationPolicy=Background")
            print(f"deleted {kind}-{uid}", flush=True)
        except ApiError as error:
            if error.status == 404:
                print(f"{kind}-{uid} is not there", flush=True)
            else:
                problems.append(f"{kind}-{uid}: {error}")
        except ProblemError as error:
            problems.append(f"{kind}-{uid}: {error}")
    if problems:
        raise ProblemError("; ".join(problems))


def main(command: str) -> None:
    """Run the command with what the environment says."""
    environment = os.environ
    host = f"{environment['KUBERNETES_SERVICE_HOST']}:{environment['KUBERNETES_SERVICE_PORT']}"
    if ":" in environment["KUBERNETES_SERVICE_HOST"]:
        host = f"[{environment['KUBERNETES_SERVICE_HOST']}]:{environment['KUBERNETES_SERVICE_PORT']}"
    cluster = Cluster(host=host, namespace=environment["NAMESPACE"])
    uid = environment["PIPELINE_RUN_UID"]
    if command == "delete":
        delete(cluster, uid=uid)
        return
    deploy(
        cluster,
        run=environment["PIPELINE_RUN_NAME"],
        uid=uid,
        password=environment["DATABASE_PASSWORD"],
        ready_seconds=float(environment["DATABASE_READY_SECONDS"]),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (ProblemError, ApiError) as problem:
        if "PROBLEM_RESULT" in os.environ:
            Path(os.environ["PROBLEM_RESULT"]).write_text(str(problem)[:1000])
        sys.exit(f"{sys.argv[1]}: {problem}")
