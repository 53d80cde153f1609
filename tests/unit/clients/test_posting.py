"""The request that makes a run: on the wire as the official client's own, and its answers are read alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from kubernetes import client
from urllib3.exceptions import HTTPError

from receiver.clients.cluster import Cluster
from receiver.clients.credentials import configuration
from receiver.clients.posting import create_namespaced_custom_object
from receiver.core.pipelinerun import KEY
from receiver.settings import ClusterSettings
from tests.support.api_server import NAMESPACE, Handler, Server, served

MANIFEST: dict[str, Any] = {
    "apiVersion": "tekton.dev/v1",
    "kind": "PipelineRun",
    "metadata": {
        "name": "striv-x",
        "namespace": NAMESPACE,
        "annotations": {KEY: "k", "title": "Ünïcode \U0001f680 \\ \" '"},
    },
    "spec": {
        "params": [{"name": "files", "value": ["a b", ""]}],
        "timeouts": {"pipeline": "1h"},
        "a": [1, 1.5, True, None],
    },
}
MADE = json.dumps({"metadata": {**MANIFEST["metadata"], "uid": "u"}}).encode()
Request = tuple[str, str, dict[str, str], bytes]


class _Recording(Handler):
    """Notes what it is sent, and answers what it was told to."""

    api: Recorder

    def do_POST(self) -> None:  # noqa: N802 - the standard library calls it so
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.api.connections.add(self.client_address)
        self.api.requests.append((self.command, self.path, dict(self.headers), body))
        self.send_response(self.api.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.api.answer) + self.api.missing))
        self.end_headers()
        self.wfile.write(self.api.answer)
        if self.api.missing:
            self.cut()


class Recorder(Server):
    """Answers all requests alike."""

    def __init__(self, status: int, answer: bytes) -> None:
        super().__init__()
        self.status = status
        self.answer = answer
        self.missing = 0
        self.requests: list[Request] = []
        self.connections: set[tuple[str, int]] = set()


@contextmanager
def api_client(folder: Path, status: int = 201, answer: bytes = b"{}") -> Iterator[tuple[Recorder, client.ApiClient]]:
    """A client with a token, and the server that it leads to."""
    with served(Recorder(status, answer), _Recording) as server:
        settings = ClusterSettings(kubeconfig=str(server.kubeconfig(folder, token="t0ken")))
        with client.ApiClient(configuration(settings, folder, 1)) as api:
            yield server, api


def create(api: client.ApiClient) -> tuple[Any, int, Any]:
    return create_namespaced_custom_object(
        api,
        group="tekton.dev",
        version="v1",
        plural="pipelineruns",
        body=MANIFEST,
        query={},
        _request_timeout=(1.0, 1.0),
    )


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_request_is_the_official_clients_and_says_besides_that_its_body_is_json(
    tmp_path: Path, dry_run: bool
) -> None:
    with api_client(tmp_path, answer=MADE) as (server, api):
        settings = ClusterSettings(kubeconfig=str(tmp_path / "kubeconfig"))
        with closing(Cluster(settings, folder=tmp_path, connections=1)) as cluster:
            cluster.create_run(MANIFEST, dry_run=dry_run)
        client.CustomObjectsApi(api).create_namespaced_custom_object(
            "tekton.dev",
            "v1",
            NAMESPACE,
            "pipelineruns",
            MANIFEST,
            field_manager="striv-receiver",
            field_validation="Strict",
            **({"dry_run": "All"} if dry_run else {}),
        )
    ours, official = (
        (method, sorted(path.replace("?", "&").split("&")), headers, body)
        for method, path, headers, body in server.requests
    )
    assert ours[2].pop("Content-Type") == "application/json"
    assert ours == official
    assert ours[2]["authorization"] == "Bearer t0ken"


def test_an_answer_is_returned_with_its_status_and_headers(tmp_path: Path) -> None:
    with api_client(tmp_path, answer='{"kind": "Ünïcode"}'.encode()) as (_, api):
        found, status, headers = create(api)
    assert (found, status, headers["content-type"]) == ({"kind": "Ünïcode"}, 201, "application/json")


@pytest.mark.parametrize("answer", [b"<html>a proxy's page</html>", b"\xff\xfe", b"", b"[" * 200_000])
def test_an_answer_that_is_no_json_is_returned_as_text(tmp_path: Path, answer: bytes) -> None:
    with api_client(tmp_path, answer=answer) as (_, api):
        assert create(api)[0] == answer.decode("utf-8", "replace")


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 409, 422, 500, 599])
def test_a_refusal_is_raised_as_the_official_client_raises_it(tmp_path: Path, status: int) -> None:
    with api_client(tmp_path, status, b'{"message": "no"}') as (_, api):
        with pytest.raises(client.ApiException) as ours:
            create(api)
        with pytest.raises(client.ApiException) as official:
            client.CustomObjectsApi(api).create_namespaced_custom_object(
                "tekton.dev", "v1", NAMESPACE, "pipelineruns", MANIFEST
            )
    assert type(ours.value) is type(official.value)
    assert (ours.value.status, ours.value.reason) == (status, official.value.reason)
    assert dict(ours.value.headers or {}) == {**dict(official.value.headers or {}), "Date": ANY}
    assert (ours.value.body or b"").decode() == official.value.body == '{"message": "no"}'


@pytest.mark.parametrize("status", [201, 500])
def test_an_answer_that_breaks_off_is_no_answer(tmp_path: Path, status: int) -> None:
    with api_client(tmp_path, status, b'{"message": "half') as (server, api):
        server.missing = 10
        with pytest.raises(HTTPError):
            create(api)


def test_one_connection_serves_what_is_made_and_what_is_refused(tmp_path: Path) -> None:
    with api_client(tmp_path) as (server, api):
        for server.status in (201, 409, 500):
            with suppress(client.ApiException):
                create(api)
        assert len(server.requests) == 3
        assert len(server.connections) == 1
