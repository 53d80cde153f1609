"""The receiver in a cluster, as its user sees it: kubectl, curl, openssl."""

import base64
import json
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver.core.pipelinerun import KEY
from tests.e2e.support.cluster import Cluster, Object, eventually, kubectl
from tests.support import guide
from tests.support.pushes import encoded, ping_payload
from tests.support.signing import new_guid

NAMESPACE, RUNS = "striv-receiver", "striv-ci"
IMAGE = "striv-receiver:local"
NODE_PORT = 30080
OVERLAY = "k8s/overlays/mine"
PING = encoded(ping_payload())

CORE = f"/api/v1/namespaces/{NAMESPACE}"
_RUNS = f"/apis/tekton.dev/v1/namespaces/{RUNS}/pipelineruns"
_CURL_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What curl got: status 0 when there was no answer, with what curl said of it."""

    status: int
    body: Object
    problem: str = ""

    @property
    def runs(self) -> list[str]:
        """The names of the runs that the answer promises."""
        return [job["run"] for job in self.body.get("runs", [])]


class Installation:
    """One receiver, installed from a folder as copy_checkout and write_overlay leave it, and every run that it has promised."""

    def __init__(self, cluster: Cluster, folder: Path, *, create_journal_secret: str = "") -> None:
        self.cluster = cluster
        self.folder = folder
        self.secret = secrets.token_urlsafe(24)
        self.promised: set[str] = set()
        self.url = ""
        self._create_journal_secret = create_journal_secret

    def apply(self) -> None:
        """Install it, and return when it answers."""
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(self.folder / "k8s/base/namespace.yaml"))
        if self._create_journal_secret:
            kubectl("delete", "secret", "receiver-journal", "-n", NAMESPACE, "--ignore-not-found")
            guide.run(self._create_journal_secret, folder=self.folder)
        (self.folder / "config" / "secrets").mkdir()
        (self.folder / "config" / "secrets" / "github").write_text(self.secret)
        data = {"github": base64.b64encode(self.secret.encode()).decode()}
        metadata = {"name": "receiver-webhook", "namespace": NAMESPACE}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(secret))
        kubectl("apply", "--server-side", "--force-conflicts", "-k", str(self.folder / OVERLAY))
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when all pods are of the newest template and ready, and the Service leads to them."""
        kubectl("rollout", "status", "deployment/receiver", "-n", NAMESPACE, "--timeout=240s")
        (node, *_) = self.cluster.items("/api/v1/nodes")
        host = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        self.url = f"http://{host}:{NODE_PORT}/webhook"
        # A moment passes until the node knows the way to a new Service or a new pod.
        eventually(lambda: self.deliver(PING, event="ping").status == 200, what="the Service answers", seconds=60)

    def remove(self) -> None:
        """Delete it with all of its runs."""
        for name in self.promised:
            self.cluster.delete(f"{_RUNS}/{name}")
        kubectl("delete", "--ignore-not-found", "--wait", "-k", str(self.folder / OVERLAY))

    def hurry_kubelet(self) -> None:
        """Have the kubelet look at the Secrets of the pods at once, not within a minute: it does when a pod itself changes."""
        for name in self.names():
            note = {"metadata": {"annotations": {"tests/looked-at": str(time.time())}}}
            self.cluster.merge(f"{CORE}/pods/{name}", note)

    def pods(self) -> list[Object]:
        """Return the pods that are not about to end, the oldest first."""
        found = self.cluster.items(f"{CORE}/pods", selector="app.kubernetes.io/name=receiver")
        staying = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(staying, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def names(self) -> set[str]:
        """Return the names of these pods."""
        return {pod["metadata"]["name"] for pod in self.pods()}

    def wait_for_replicas(self, count: int) -> None:
        """Return when there are exactly so many pods, all of them ready."""

        def whole() -> bool:
            pods = self.pods()
            return len(pods) == count and all(map(is_ready, pods))

        eventually(whole, what=f"{count} ready pods", seconds=240)

    def pod(self) -> Object:
        """Return the newest pod."""
        (*_, newest) = self.pods()
        return newest

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container and return what it prints."""
        return kubectl("exec", "-n", NAMESPACE, "deployment/receiver", "-c", container, "--", *command)

    def deliver(
        self, body: bytes, *, secret: str | None = None, event: str = "push", guid: str | None = None
    ) -> Answer:
        """Sign with openssl and send with curl to the Service, as docs/install.md shows it."""
        key = self.secret if secret is None else secret
        command = ["openssl", "dgst", "-sha256", "-hmac", key, "-r"]
        digest = subprocess.run(command, input=body, capture_output=True, check=True).stdout.split()[0].decode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": guid or new_guid(),
            "X-Hub-Signature-256": f"sha256={digest}",
        }
        curl = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            str(_CURL_SECONDS),
            "--write-out",
            "\n%{http_code}",
            "--data-binary",
            "@-",
        ]
        for name, value in headers.items():
            curl += ["--header", f"{name}: {value}"]
        result = subprocess.run([*curl, self.url], input=body, capture_output=True, check=False)
        text, _, status = result.stdout.decode().rpartition("\n")
        body_of_answer = json.loads(text) if text.startswith("{") else {}
        answer = Answer(int(status), body_of_answer, result.stderr.decode().strip())
        self.promised.update(answer.runs)
        return answer

    def run(self, name: str) -> Object | None:
        """Return a PipelineRun, None when there is none."""
        return self.cluster.get(f"{_RUNS}/{name}")

    def wait_for_run(self, name: str, *, seconds: float = 30) -> Object:
        """Return a PipelineRun as soon as it exists."""
        return eventually(lambda: self.run(name), what=f"the PipelineRun {name}", seconds=seconds)

    def runs(self) -> dict[str, list[str]]:
        """Return the names of all PipelineRuns of the receiver, by the key that each carries."""
        found: dict[str, list[str]] = {}
        for run in self.cluster.items(_RUNS):
            if key := run["metadata"].get("annotations", {}).get(KEY):
                found.setdefault(key, []).append(run["metadata"]["name"])
        return found

    def twins_of(self, name: str) -> list[str]:
        """Return the names of all PipelineRuns that carry the key of this one, itself included, as soon as it exists."""
        run = self.wait_for_run(name)
        return self.runs()[run["metadata"]["annotations"][KEY]]

    def cancel(self, name: str) -> None:
        """Cancel a PipelineRun."""
        self.cluster.merge(f"{_RUNS}/{name}", {"spec": {"status": "Cancelled"}})

    def deliveries(self) -> list[dict[str, Any]]:
        """Return what `receiver deliveries list` says."""
        listed: list[dict[str, Any]] = json.loads(
            self.execute("work", "receiver", "deliveries", "list", "-o", "json", "-n", "1000")
        )
        return listed

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Return the jobs that `receiver deliveries list` shows, by the names of their runs."""
        return {job["run_name"]: job for record in self.deliveries() for job in record["jobs"]}


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
