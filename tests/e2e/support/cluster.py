"""The cluster that KUBECONFIG names, as plain dicts."""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config

from tests.support.needs import lacking
from tests.support.waiting import wait_until

Object = dict[str, Any]
T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[3]
CALL_SECONDS = 30
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server's refusal, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


def eventually(condition: Callable[[], T | None], *, what: str, seconds: float, every: float = 0.25) -> T:
    """Wait as everywhere in the tests, but look less often, since most looks are requests to a cluster that is at work."""
    return wait_until(condition, what=what, seconds=seconds, every=every)


class Cluster:
    """One identity's view of the API server."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self.client = api_client

    @classmethod
    def from_kubeconfig(cls) -> "Cluster":
        """Connect as the user of KUBECONFIG, who must be an administrator; without it, the test is skipped, or fails in CI."""
        file = os.environ.get("KUBECONFIG") or lacking("KUBECONFIG names no cluster with real pods")
        return cls(config.new_client_from_config(config_file=file))

    def as_service_account(self, namespace: str, name: str) -> "Cluster":
        """Connect with a real token of a ServiceAccount, from the TokenRequest API."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self.call("POST", path, {"spec": {"expirationSeconds": 3600}})
        ours = self.client.configuration
        configuration = client.Configuration()
        configuration.host = ours.host
        configuration.ssl_ca_cert = ours.ssl_ca_cert
        configuration.verify_ssl = ours.verify_ssl
        configuration.api_key = {"authorization": answer["status"]["token"]}
        configuration.api_key_prefix = {"authorization": "Bearer"}
        return Cluster(client.ApiClient(configuration))

    def impersonating(self, user: str, group: str) -> "Cluster":
        """Connect as this administrator who acts as another user of one group."""
        api_client = client.ApiClient(self.client.configuration)
        api_client.set_default_header("Impersonate-User", user)
        api_client.set_default_header("Impersonate-Group", group)
        return Cluster(api_client)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> str:
        """Return the text of the answer; raise ApiError for a refusal."""
        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        request = self.client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self.client.call_api(*request, _request_timeout=CALL_SECONDS)
        text: str = answer.read().decode(errors="replace")
        if answer.status >= 300:
            try:
                message = str(json.loads(text)["message"])
            except (ValueError, KeyError, TypeError):
                message = text
            raise ApiError(answer.status, message)
        return text

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Return the decoded answer; raise ApiError for a refusal."""
        decoded: Object = json.loads(self.send(method, path, body, query=query, content_type=content_type))
        return decoded

    def get(self, path: str) -> Object | None:
        """Return an object, or None when it does not exist."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, *, selector: str = "") -> list[Object]:
        """Return all objects of a collection that a label selector matches."""
        found: list[Object] = self.call("GET", path, query={"labelSelector": selector})["items"]
        return found

    def merge(self, path: str, change: Object) -> Object:
        """Change an object by a merge patch."""
        return self.call("PATCH", path, change, content_type=MERGE_PATCH)

    def addresses(self) -> list[str]:
        """Return the API server's addresses within the cluster: that of its Service, and its own."""
        service = self.call("GET", "/api/v1/namespaces/default/services/kubernetes")
        slices = self.items(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            selector="kubernetes.io/service-name=kubernetes",
        )
        own = [address for each in slices for endpoint in each["endpoints"] for address in endpoint["addresses"]]
        return [service["spec"]["clusterIP"], *own]

    @contextmanager
    def changed(self, path: str, change: Callable[[Object], None]) -> Iterator[None]:
        """Change an object in place, and put its spec back afterwards."""
        original = self.call("GET", path)
        altered = copy.deepcopy(original)
        change(altered)
        self.call("PUT", path, altered)
        try:
            yield
        finally:
            current = self.call("GET", path)
            for part in ("spec", "rules"):
                if part in original:
                    current[part] = original[part]
            self.call("PUT", path, current)

    def delete(self, path: str) -> None:
        """Delete an object that may be gone already, and what it owns in the background."""
        try:
            self.call("DELETE", path, query={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != 404:
                raise


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it prints; a failure shows what it said."""
    program = shutil.which("kubectl")
    assert program, "kubectl is not in PATH"
    result = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
    return result.stdout


def stand_in_images(paths: list[Path]) -> None:
    """Make the images of these manifests runnable, where the cluster has stand-ins instead of a registry.

    STRIV_E2E_CLUSTER names the program that does it; by default ../shared/cluster/cluster beside the checkout, if it is there.
    """
    default = CHECKOUT.parent / "shared" / "cluster" / "cluster"
    program = Path(os.environ.get("STRIV_E2E_CLUSTER", default))
    if program.is_file():
        subprocess.run([program, "images", *map(str, paths)], check=True, capture_output=True, timeout=300)


def walk_owners(objects: list[Object], owner_uid: str) -> Iterator[Object]:
    """Yield the objects that name this owner."""
    for thing in objects:
        if any(owner["uid"] == owner_uid for owner in thing["metadata"].get("ownerReferences", [])):
            yield thing
