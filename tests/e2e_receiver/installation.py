"""The receiver in a cluster, as its user sees it: kubectl, curl, openssl."""

import base64
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver.core.pipelinerun import KEY
from tests.e2e.support.cluster import Cluster, Object, eventually, kubectl
from tests.support.signing import new_guid

NAMESPACE, RUNS = "striv-receiver", "striv-ci"
IMAGE = "striv-receiver:local"
NODE_PORT = 30080

_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_RUNS = f"/apis/tekton.dev/v1/namespaces/{RUNS}/pipelineruns"
_CURL_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What curl got: status 0 when there was no answer."""

    status: int
    body: Object

    @property
    def runs(self) -> list[str]:
        """The names of the runs that the answer promises."""
        return [job["run"] for job in self.body.get("runs", [])]


class Installation:
    """One receiver, and every run that it has promised."""

    def __init__(self, cluster: Cluster, folder: Path, *, secret: str, journal_urls: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.folder = folder
        self.secret = secret
        self.journal_urls = journal_urls
        self.promised: set[str] = set()
        self._address = ""

    def apply(self) -> None:
        """Install it, and return when it is ready."""
        kubectl("apply", "--server-side", "--force-conflicts", "-k", str(self.folder))
        if self.journal_urls:
            _apply_secret("receiver-journal", self.journal_urls)
        self.write_secret({"github": self.secret})
        self.wait_ready()
        (node, *_) = self.cluster.items("/api/v1/nodes")
        host = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        self._address = f"http://{host}:{NODE_PORT}"
        # A moment passes until the node knows the way to a new Service.
        ping = b'{"zen":"Design for failure.","hook_id":1}'
        eventually(lambda: self.deliver(ping, event="ping").status == 200, what="the Service answers", seconds=60)

    def wait_ready(self) -> None:
        """Return when all pods are of the newest template and ready."""
        kubectl("rollout", "status", "deployment/receiver", "-n", NAMESPACE, "--timeout=240s")

    def remove(self) -> None:
        """Delete it with all of its runs."""
        for name in self.promised:
            self.cluster.delete(f"{_RUNS}/{name}")
        kubectl("delete", "--ignore-not-found", "--wait", "-k", str(self.folder))

    def write_secret(self, values: Mapping[str, str]) -> None:
        """Write the webhook's Secret, and have the kubelet look at it soon."""
        _apply_secret("receiver-webhook", values)
        for pod in self.pods():
            # A change of the pod itself makes the kubelet update its volumes at once, not within a minute.
            note = {"metadata": {"annotations": {"tests/secret-written-at": str(time.time())}}}
            self.cluster.merge(f"{_CORE}/pods/{pod['metadata']['name']}", note)

    def pods(self) -> list[Object]:
        """Return the pods that are not about to end, the oldest first."""
        found = self.cluster.items(f"{_CORE}/pods", selector="app.kubernetes.io/name=receiver")
        staying = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(staying, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def names(self) -> set[str]:
        """Return the names of these pods."""
        return {pod["metadata"]["name"] for pod in self.pods()}

    def pod(self) -> Object:
        """Return the newest pod."""
        (*_, newest) = self.pods()
        return newest

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container and return what it prints."""
        return kubectl("exec", "-n", NAMESPACE, "deployment/receiver", "-c", container, "--", *command)

    def deliver(self, body: bytes, *, secret: str | None = None, event: str = "push") -> Answer:
        """Sign with openssl and send with curl to the Service, as docs/install.md shows it."""
        key = self.secret if secret is None else secret
        command = ["openssl", "dgst", "-sha256", "-hmac", key, "-r"]
        digest = subprocess.run(command, input=body, capture_output=True, check=True).stdout.split()[0].decode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": new_guid(),
            "X-Hub-Signature-256": f"sha256={digest}",
        }
        curl = [
            "curl",
            "--silent",
            "--max-time",
            str(_CURL_SECONDS),
            "--write-out",
            "\n%{http_code}",
            "--data-binary",
            "@-",
        ]
        for name, value in headers.items():
            curl += ["--header", f"{name}: {value}"]
        result = subprocess.run([*curl, self._address + "/webhook"], input=body, capture_output=True, check=False)
        text, _, status = result.stdout.decode().rpartition("\n")
        answer = Answer(int(status), json.loads(text) if text.startswith("{") else {})
        self.promised |= set(answer.runs)
        return answer

    def run(self, name: str) -> Object | None:
        """Return a PipelineRun, None when there is none."""
        return self.cluster.get(f"{_RUNS}/{name}")

    def wait_for_run(self, name: str, *, seconds: float = 30) -> Object:
        """Return a PipelineRun as soon as it exists."""
        return eventually(lambda: self.run(name), what=f"the PipelineRun {name}", seconds=seconds)

    def runs_of(self, key: str) -> list[str]:
        """Return the names of all PipelineRuns that carry this key."""
        return [
            run["metadata"]["name"]
            for run in self.cluster.items(_RUNS)
            if run["metadata"].get("annotations", {}).get(KEY) == key
        ]

    def cancel(self, name: str) -> None:
        """Cancel a PipelineRun."""
        self.cluster.merge(f"{_RUNS}/{name}", {"spec": {"status": "Cancelled"}})

    def deliveries(self) -> list[dict[str, Any]]:
        """Return what `receiver deliveries list` says."""
        listed: list[dict[str, Any]] = json.loads(
            self.execute("work", "receiver", "deliveries", "list", "-o", "json", "-n", "1000")
        )
        return listed


def _apply_secret(name: str, values: Mapping[str, str]) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": NAMESPACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(secret))
