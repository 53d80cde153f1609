"""Proving templates against the Pipeline: what `receiver check` says before the first push."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from receiver.clients.cluster import Cluster
from receiver.core.triggers import compile_triggers
from receiver.settings import ClusterSettings
from receiver.work.proof import Finding, prove
from tests.support.api_server import COLLECTION, NAMESPACE, Handler, Server, served
from tests.support.folders import TEMPLATE, settings_in, trigger

PIPELINE = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelines/deploy-striv"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Admitting(Server):
    """Has one Pipeline, allows everything, and remembers what was to be admitted."""

    def __init__(self) -> None:
        super().__init__()
        self.params: list[dict[str, Any]] = []
        self.tried: list[dict[str, Any]] = []


class _Handler(Handler):
    api: Admitting

    def do_GET(self) -> None:  # noqa: N802 - the standard library calls it so
        if self.path != PIPELINE:
            self.refuse_unknown()
            return
        self.send(200, {"metadata": {"name": "deploy-striv"}, "spec": {"params": self.api.params, "tasks": []}})

    def do_POST(self) -> None:  # noqa: N802 - as above
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = urlsplit(self.path)
        if url.path == REVIEWS:
            self.send(201, {**body, "status": {"allowed": True}})
        elif url.path == COLLECTION and parse_qs(url.query).get("dryRun") == ["All"]:
            self.api.tried.append(body)
            self.send(201, {**body, "metadata": {**body["metadata"], "uid": "uid-of-nothing"}})
        else:
            self.refuse_unknown()


@pytest.fixture
def server() -> Iterator[Admitting]:
    """An API server with the Pipeline."""
    with served(Admitting(), _Handler) as state:
        yield state


def declared(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "type": kind}


def proved(server: Admitting, folder: Path, values: dict[str, Any], sources: dict[str, Any]) -> list[Finding]:
    """Prove a template with these values whose params are filled from these sources."""
    spec = {**TEMPLATE["spec"], "params": [{"name": name, "value": value} for name, value in values.items()]}
    settings = settings_in(
        folder,
        triggers=[trigger(params=sources)],
        template={**TEMPLATE, "spec": spec},
        cluster={"namespace": NAMESPACE},
    )
    kubeconfig = str(server.kubeconfig(folder))
    cluster = Cluster(ClusterSettings(kubeconfig=kubeconfig, namespace=NAMESPACE), folder=folder, connections=1)
    try:
        return list(prove(compile_triggers(settings), cluster))
    finally:
        cluster.close()


def test_params_of_every_kind_that_fit_are_good_and_tried_with_values_of_their_kind(
    server: Admitting, tmp_path: Path
) -> None:
    server.params = [declared("revision"), declared("files", "array"), declared("author", "object"), declared("url")]
    findings = proved(
        server,
        tmp_path,
        {"revision": "", "files": [], "author": {"name": "", "email": ""}, "url": "https://example.org"},
        {
            "revision": "head_sha",
            "files": {"from": "head_commit.added", "default": []},
            "author": "head_commit.author",
        },
    )
    assert [finding.text for finding in findings if not finding.good] == []
    ((revision, files, author, url),) = (run["spec"]["params"] for run in server.tried)
    sample = revision["value"]
    assert isinstance(sample, str)
    assert sample
    assert files == {"name": "files", "value": [sample]}
    assert author == {"name": "author", "value": {"name": sample, "email": sample}}
    assert url["value"] == "https://example.org"


@pytest.mark.parametrize(
    ("kind", "value", "source", "words"),
    [
        ("array", [], "head_sha", "is of type array in the Pipeline, and `head_sha` is always a string"),
        ("object", {"a": ""}, "title", "is of type object in the Pipeline, and `title` is always a string"),
        (
            "array",
            [],
            {"from": "head_commit.added", "default": ""},
            "is of type array in the Pipeline, its default of type string",
        ),
        (
            "string",
            "",
            {"from": "head_sha", "default": []},
            "is of type string in the Pipeline, its default of type array",
        ),
        ("array", "", "head_commit.added", "is of type array in the Pipeline, of type string in the template"),
    ],
)
def test_a_source_that_cannot_be_of_the_declared_type_is_found(
    server: Admitting, tmp_path: Path, kind: str, value: Any, source: Any, words: str
) -> None:
    server.params = [declared("x", kind)]
    findings = proved(server, tmp_path, {"x": value}, {"x": source})
    assert [finding.text for finding in findings if not finding.good] == [f"trigger striv: the parameter `x` {words}"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ([declared("x"), declared("y")], "the Pipeline needs the parameter `y`, which the template does not give"),
        ([], "the template gives the parameter `x`, which the Pipeline does not have"),
    ],
)
def test_params_that_only_one_side_knows_are_found(
    server: Admitting, tmp_path: Path, params: list[dict[str, Any]], words: str
) -> None:
    server.params = params
    findings = proved(server, tmp_path, {"x": ""}, {"x": "head_sha"})
    assert [finding.text for finding in findings if not finding.good] == [f"trigger striv: {words}"]
