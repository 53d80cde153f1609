"""A small client of the Kubernetes API for tests: plain dicts, no cache, no retries, every answer checked."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.support.waiting import wait_until

Object = dict[str, Any]

JSON_MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused: its Status object, opened up."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        self.code = code
        self.status = status
        self.reason = str(status.get("reason", ""))
        self.message = str(status.get("message", ""))
        super().__init__(f"{code} {self.reason}: {self.message}")


class Api:
    """The API server, seen by the holder of one token.

    Usable from several threads. A path that a method takes is one of the API's own, such as
    `/api/v1/namespaces/default/pods/x`; `path()` makes it from apiVersion, kind, namespace and name.
    """

    def __init__(self, *, server: str, token: str, ca_file: Path, timeout_seconds: float = 10) -> None:
        self.server = server
        self.token = token
        self.ca_file = ca_file
        self.timeout_seconds = timeout_seconds
        self._local = threading.local()
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """Send one request and return the JSON of its answer; raise ApiError for a refusal.

        Connection errors are requests' own (requests.ConnectionError).
        """
        answer = self._session().request(
            method,
            self.server + path,
            json=body,
            params=query,
            headers={"Content-Type": content_type} if body is not None else {},
            timeout=self.timeout_seconds,
        )
        try:
            decoded = answer.json()
        except ValueError:
            decoded = {"message": answer.text}
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, decoded)
        result: Object = decoded
        return result

    def path(self, api_version: str, kind: str, *, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of a collection, or of one named object; the plural comes from discovery."""
        prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        if (api_version, kind) not in self._resources:
            for resource in self.request("GET", prefix)["resources"]:
                if "/" not in resource["name"]:
                    self._resources[api_version, resource["kind"]] = (
                        resource["name"],
                        resource["namespaced"],
                    )
        plural, namespaced = self._resources[api_version, kind]
        middle = f"/namespaces/{namespace or 'default'}" if namespaced and (name or namespace) else ""
        return f"{prefix}{middle}/{plural}" + (f"/{name}" if name else "")

    def create(
        self, manifest: Object, *, namespace: str | None = None, dry_run: bool = False, strict: bool = True
    ) -> Object:
        """Create the object and return it as stored; unknown fields are refused unless strict is off."""
        namespace = namespace or manifest["metadata"].get("namespace") or "default"
        path = self.path(manifest["apiVersion"], manifest["kind"], namespace=namespace)
        query = {"fieldValidation": "Strict" if strict else "Warn"} | ({"dryRun": "All"} if dry_run else {})
        return self.request("POST", path, manifest, query=query)

    def get(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> Object:
        """Return one object; ApiError 404 when it does not exist."""
        return self.request("GET", self.path(api_version, kind, namespace=namespace, name=name))

    def list(self, api_version: str, kind: str, *, namespace: str | None = None, labels: str = "") -> list[Object]:
        """Return the objects of a kind, of one namespace or all, that a label selector picks."""
        query = {"labelSelector": labels} if labels else {}
        items: list[Object] = self.request("GET", self.path(api_version, kind, namespace=namespace), query=query)[
            "items"
        ]
        return items

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Object,
        *,
        namespace: str | None = None,
        subresource: str = "",
    ) -> Object:
        """Merge a patch (RFC 7386) into an object, or into its subresource such as `status`."""
        path = self.path(api_version, kind, namespace=namespace, name=name)
        path += f"/{subresource}" if subresource else ""
        return self.request("PATCH", path, patch, content_type=JSON_MERGE_PATCH)

    def delete(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> None:
        """Delete an object, its dependents in the background; return before they are gone."""
        query = {"propagationPolicy": "Background"}
        self.request("DELETE", self.path(api_version, kind, namespace=namespace, name=name), query=query)

    def exists(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> bool:
        """Tell whether the object is there."""
        try:
            self.get(api_version, kind, name, namespace=namespace)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def wait_gone(
        self, api_version: str, kind: str, name: str, *, namespace: str | None = None, seconds: float = 30
    ) -> None:
        """Return when the object no longer exists; NotReadyError after `seconds`."""
        wait_until(
            lambda: not self.exists(api_version, kind, name, namespace=namespace),
            what=f"{kind} {name} to be gone",
            seconds=seconds,
        )

    def as_service_account(self, name: str, *, namespace: str) -> "Api":
        """Return the API as this ServiceAccount sees it, by a real token of the TokenRequest API."""
        path = self.path("v1", "ServiceAccount", namespace=namespace, name=name) + "/token"
        answer = self.request(
            "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        )
        return Api(
            server=self.server,
            token=answer["status"]["token"],
            ca_file=self.ca_file,
            timeout_seconds=self.timeout_seconds,
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # A proxy or a .netrc of the user has nothing to do with a server on this machine.
            session.trust_env = False
            session.verify = str(self.ca_file)
            session.headers["Authorization"] = f"Bearer {self.token}"
        return session
