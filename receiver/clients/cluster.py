"""The Kubernetes API, as far as the receiver needs it: PipelineRuns in dicts, a time-out on every call, our own errors.

Uses the official client's dict API (CustomObjectsApi): its models and informer cannot carry custom resources. What a push
waits for, the creation, goes through its lower half (receiver.clients.posting).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client

from receiver.clients.credentials import configuration
from receiver.clients.posting import create_namespaced_custom_object
from receiver.clients.refusals import (
    ExistsError,
    ForbiddenError,
    TakenError,
    cause,
    shortened,
    translated,
    watch_error,
)
from receiver.core.pipelinerun import KEY, MANAGED_BY
from receiver.errors import NotFoundError, OutageError, PermanentError, SettingsError, TransientError
from receiver.settings import ClusterSettings

_log = logging.getLogger(__name__)
_GROUP, _VERSION = "tekton.dev", "v1"
_PAGE = 250
_WATCH_SECONDS = 20  # and the grace for one that died without a word: what is missed then is still seen within a minute
_WATCH_GRACE_SECONDS = 10
_DOUBT_SECONDS = 30.0
_CREATE = {"fieldManager": "striv-receiver", "fieldValidation": "Strict"}
_DRY_RUN = {**_CREATE, "dryRun": "All"}
_MANAGED = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())


class Cluster:
    """One API server. Safe to use from several threads."""

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        folder: Path,
        connections: int,
        observe: Callable[[str, int], None] = lambda _method, _status: None,
    ) -> None:
        """`observe` is told of every call: the method's name and the HTTP status, 0 for no answer.

        Raises SettingsError when there is neither a kubeconfig nor a pod's ServiceAccount.
        """
        self._settings = settings
        self._folder = folder
        self._connections = connections
        self._observe = observe
        self._timeout = (settings.connect_timeout_seconds, settings.read_timeout_seconds)
        self._doubted_since: float | None = None
        self._objects = self._connected()

    def reconnect(self) -> None:
        """Read credentials and certificates anew and use new connections; for after a refusal or an outage.

        What cannot be read stays as it was, to be tried again.
        """
        try:
            # The old connections end with the calls that still use them.
            self._objects = self._connected()
        except SettingsError as error:
            _log.warning("credentials not read", extra={"problem": str(error)})

    def _connected(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(client.ApiClient(configuration(self._settings, self._folder, self._connections)))

    def create_run(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """POST a PipelineRun with strict field validation and return it.

        A run of that name that carries our key already is returned as if just made. Raises TakenError when the name belongs
        to something else, and as all methods here OutageError, TransientError or PermanentError.
        """
        metadata = manifest["metadata"]
        try:
            run: dict[str, Any] = self._call(
                create_namespaced_custom_object,
                api=self._objects.api_client,
                plural="pipelineruns",
                body=manifest,
                query=_DRY_RUN if dry_run else _CREATE,
            )
        except ExistsError:
            try:
                found = self.get_run(metadata["namespace"], metadata["name"])
            except NotFoundError as error:
                raise TransientError("the object that had the run's name was deleted just now") from error
            if (found["metadata"].get("annotations") or {}).get(KEY) == metadata["annotations"][KEY]:
                return found
            raise TakenError(
                f"the name {metadata['name']} in {metadata['namespace']} belongs to another object"
            ) from None
        except (ForbiddenError, NotFoundError) as error:
            self._doubt(error)
            raise
        return _the_run(run, metadata["namespace"], metadata["name"])

    def _doubt(self, refusal: PermanentError) -> None:
        """Raise OutageError while the API server is only starting: it forbids everything until it has read its rules.

        Not for ever: where nobody may ask /readyz, a refusal that is repeated for half a minute is believed.
        """
        now = time.monotonic()
        if self._is_ready() or now - (self._doubted_since or now) > _DOUBT_SECONDS:
            return
        self._doubted_since = self._doubted_since or now
        raise OutageError(f"the API server is not ready and says: {refusal}") from refusal

    def _is_ready(self) -> bool:
        api = self._objects.api_client
        try:
            request = api.param_serialize("GET", "/readyz", auth_settings=["BearerToken"])
            answer = api.call_api(*request, _request_timeout=self._timeout)
            answer.read()
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
            return False
        return bool(answer.status == 200)

    def get_run(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a PipelineRun; raises NotFoundError when there is none, TransientError for a reply about anything else."""
        return _the_run(self._get(namespace, "pipelineruns", name), namespace, name)

    def get_pipeline(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a Pipeline; raises NotFoundError when there is none."""
        return self._get(namespace, "pipelines", name)

    def list_runs(self, namespace: str, *, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        """Return the receiver's PipelineRuns in a namespace, and the resource version to watch from.

        `selector` (of labels) narrows them down. Of each run there is what names it and how it ended, no more: a list holds
        every run that nobody has deleted yet, and a whole one takes some 50 KB of memory.
        """
        return self._list(namespace, "pipelineruns", f"{_MANAGED},{selector}" if selector else _MANAGED)

    def ask(self, namespace: str) -> None:
        """Make a call that costs next to nothing, to see whether the API server answers."""
        self._call(
            self._objects_call("list_namespaced_custom_object_with_http_info"),
            namespace=namespace,
            plural="pipelineruns",
            label_selector=_MANAGED,
            limit=1,
        )

    def list_taskruns(self, namespace: str, run_uid: str) -> list[dict[str, Any]]:
        """Return the TaskRuns of a PipelineRun."""
        return self._list(namespace, "taskruns", f"tekton.dev/pipelineRunUID={run_uid}")[0]

    def watch_runs(self, namespace: str, resource_version: str) -> Iterator[tuple[dict[str, Any] | None, str]]:
        """Yield (run, resource version) for each change and (None, version) for each bookmark, until the server ends it.

        Every end is normal: list again or go on from the last version. Raises WatchExpiredError when only listing helps.
        """
        response = self._raw(
            self._objects_call("list_namespaced_custom_object"),
            namespace=namespace,
            plural="pipelineruns",
            label_selector=_MANAGED,
            resource_version=resource_version,
            allow_watch_bookmarks=True,
            timeout_seconds=_WATCH_SECONDS,
            watch=True,
            _preload_content=False,
            _request_timeout=(self._timeout[0], _WATCH_SECONDS + _WATCH_GRACE_SECONDS),
        )
        try:
            for line in _lines(response):
                event = json.loads(line)
                kind, found = event["type"], event["object"]
                if kind == "ERROR":
                    raise watch_error(found)
                version = found["metadata"]["resourceVersion"]
                yield (None if kind == "BOOKMARK" else {**found, "deleted": kind == "DELETED"}, version)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OutageError(f"the watch broke off: {cause(error)}") from error
        finally:
            response.close()

    def may(self, namespace: str, verb: str, resource: str, *, group: str = _GROUP, name: str = "") -> bool:
        """Tell whether our own identity may do this (SelfSubjectAccessReview, which needs no right itself)."""
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._raw(
            client.AuthorizationV1Api(self._objects.api_client).create_self_subject_access_review,
            body=review,
            _request_timeout=self._timeout,
        )
        return bool(answer.status.allowed)

    def close(self) -> None:
        """Close all connections."""
        self._objects.api_client.close()

    def _get(self, namespace: str, plural: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call(
            self._objects_call("get_namespaced_custom_object_with_http_info"),
            namespace=namespace,
            plural=plural,
            name=name,
        )
        return found

    def _list(self, namespace: str, plural: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._call(
                self._objects_call("list_namespaced_custom_object_with_http_info"),
                namespace=namespace,
                plural=plural,
                label_selector=selector,
                limit=_PAGE,
                **({"_continue": token} if token else {}),
            )
            items += map(_essence, page["items"])
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, page["metadata"]["resourceVersion"]

    def _objects_call(self, name: str) -> Callable[..., Any]:
        # Looked up at each call, since `reconnect` replaces the object.
        method: Callable[..., Any] = getattr(self._objects, name)
        return method

    def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        data, _status, headers = self._raw(method, _request_timeout=self._timeout, **arguments)
        warning = (headers or {}).get("Warning")
        if warning:
            _log.warning("the API server warns", extra={"warning": shortened(str(warning))})
        return data

    def _raw(self, method: Callable[..., Any], **arguments: Any) -> Any:
        if "plural" in arguments:
            arguments |= {"group": _GROUP, "version": _VERSION}
        name = method.__name__.removesuffix("_with_http_info")
        try:
            answer = method(**arguments)
        except client.ApiException as error:
            self._observe(name, error.status or 0)
            raise translated(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._observe(name, 0)
            raise OutageError(f"the API server does not answer: {cause(error)}", in_doubt=True) from error
        self._observe(name, 200)
        self._doubted_since = None
        return answer


def _metadata(found: Any) -> dict[str, Any]:
    metadata = found.get("metadata") if isinstance(found, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _the_run(reply: Any, namespace: str, name: str) -> dict[str, Any]:
    """Return what the API server replied, unless it is no PipelineRun or not this one: a proxy's page, for instance."""
    metadata = _metadata(reply)
    is_named_so = (metadata.get("namespace"), metadata.get("name")) == (namespace, name)
    if is_named_so and isinstance(uid := metadata.get("uid"), str) and uid:
        run: dict[str, Any] = reply
        return run
    raise TransientError(f"the API server's reply is no PipelineRun of ours: {shortened(str(reply))}", in_doubt=True)


def _essence(found: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: found["metadata"].get(name) for name in ("name", "namespace", "uid", "labels")}
    annotations = found["metadata"].get("annotations") or {}
    metadata["annotations"] = {KEY: annotations[KEY]} if KEY in annotations else {}
    status = found.get("status")
    if isinstance(status, dict):
        status = {name: status.get(name) for name in ("conditions", "childReferences", "results")}
    return {"metadata": metadata, "status": status}


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)
