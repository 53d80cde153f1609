"""The adapter at the wire: no call waits for ever, and what the API server warns of is told."""

from __future__ import annotations

import inspect
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from receiver.clients import cluster as adapter
from receiver.clients.cluster import Cluster
from receiver.core.pipelinerun import KEY
from receiver.errors import OutageError
from receiver.settings import ClusterSettings
from tests.support.api_server import COLLECTION, NAMESPACE, Handler, Server, served

TIMEOUT_SECONDS = 0.2
GIVE_UP_SECONDS = 10.0
UID = "uid-of-striv-x"
MANIFEST: dict[str, Any] = {
    "metadata": {"name": "striv-x", "namespace": NAMESPACE, "annotations": {KEY: "k"}},
    "spec": {},
}
CALLS: dict[str, Callable[[Cluster], Any]] = {
    "ask": lambda cluster: cluster.ask(NAMESPACE),
    "create_run": lambda cluster: cluster.create_run(MANIFEST),
    "get_pipeline": lambda cluster: cluster.get_pipeline(NAMESPACE, "x"),
    "get_run": lambda cluster: cluster.get_run(NAMESPACE, "x"),
    "list_runs": lambda cluster: cluster.list_runs(NAMESPACE),
    "list_taskruns": lambda cluster: cluster.list_taskruns(NAMESPACE, "uid"),
    "may": lambda cluster: cluster.may(NAMESPACE, "get", "pipelineruns"),
    "watch_runs": lambda cluster: next(cluster.watch_runs(NAMESPACE, "1")),
}


def connected(server: Server, folder: Path) -> Cluster:
    settings = ClusterSettings(
        kubeconfig=str(server.kubeconfig(folder)),
        connect_timeout_seconds=TIMEOUT_SECONDS,
        read_timeout_seconds=TIMEOUT_SECONDS,
    )
    return Cluster(settings, folder=folder, connections=1)


class Deaf(Server):
    """Listens and never says a word, until it ends all connections lest a call without time-out hangs the tests."""

    def __init__(self, *, room: int) -> None:
        super().__init__()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(room)
        self.port = self._socket.getsockname()[1]
        self._end = threading.Timer(GIVE_UP_SECONDS, self._socket.close)
        self._end.start()

    def close(self) -> None:
        self._end.cancel()
        self._socket.close()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    """A server that takes connections and answers nothing."""
    with closing(Deaf(room=8)) as server:
        yield server


@pytest.fixture
def full() -> Iterator[Deaf]:
    """A server that takes no more connections."""
    with closing(Deaf(room=0)) as server, socket.socket() as only:
        only.connect(("127.0.0.1", server.port))
        yield server


def test_every_call_to_the_api_server_is_tried_here() -> None:
    methods = {name for name, _ in inspect.getmembers(Cluster, inspect.isfunction) if not name.startswith("_")}
    assert methods - {"close", "reconnect"} == CALLS.keys()


@pytest.mark.parametrize("kind", ["deaf", "full"])
@pytest.mark.parametrize("method", CALLS)
def test_no_call_waits_longer_than_its_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, kind: str, method: str
) -> None:
    # A watch may be silent for as long as it lasts.
    monkeypatch.setattr(adapter, "_WATCH_SECONDS", 0)
    monkeypatch.setattr(adapter, "_WATCH_GRACE_SECONDS", TIMEOUT_SECONDS)
    with closing(connected(request.getfixturevalue(kind), tmp_path)) as cluster:
        began = time.monotonic()
        with pytest.raises(OutageError, match=r"does not answer.* timed out") as caught:
            CALLS[method](cluster)
    assert time.monotonic() - began < GIVE_UP_SECONDS / 2
    assert caught.value.in_doubt


class _Forbidding(Handler):
    """Refuses what is made, and never says whether it is ready."""

    api: Silent

    def do_POST(self) -> None:  # noqa: N802 - the standard library calls it so
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send(403, {"kind": "Status", "message": "not yet"})

    def do_GET(self) -> None:  # noqa: N802 - as above
        assert self.path == "/readyz"
        self.api.released.wait(GIVE_UP_SECONDS)
        self.cut()


class Silent(Server):
    """Owes an answer until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def close(self) -> None:
        self.released.set()


def test_the_question_whether_the_api_server_is_ready_has_a_time_out_too(tmp_path: Path) -> None:
    with served(Silent(), _Forbidding) as server, closing(connected(server, tmp_path)) as cluster:
        began = time.monotonic()
        with pytest.raises(OutageError, match="is not ready and says: HTTP 403: not yet"):
            cluster.create_run(MANIFEST)
        assert time.monotonic() - began < GIVE_UP_SECONDS / 2


class _Warning(Handler):
    """Makes every run, with the warnings that the server was given."""

    api: Warns

    def do_POST(self) -> None:  # noqa: N802 - the standard library calls it so
        run = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if urlsplit(self.path).path != COLLECTION:
            self.refuse_unknown()
            return
        made = {**run, "metadata": {**run["metadata"], "uid": UID}}
        self.send(201, made, {"Warning": self.api.warning} if self.api.warning else {})


class Warns(Server):
    """Has something to say beside its answer, or nothing."""

    def __init__(self, warning: str) -> None:
        super().__init__()
        self.warning = warning


@pytest.mark.parametrize("warning", ['299 - "tekton.dev/v1 PipelineRun is deprecated"', "x" * 5_000, ""])
def test_a_warning_of_the_api_server_is_logged_in_bounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, warning: str
) -> None:
    caplog.set_level(logging.WARNING, "receiver")
    with served(Warns(warning), _Warning) as server, closing(connected(server, tmp_path)) as cluster:
        assert cluster.create_run(MANIFEST)["metadata"] == {**MANIFEST["metadata"], "uid": UID}
    found = [vars(record)["warning"] for record in caplog.records if record.message == "the API server warns"]
    assert found == ([warning[:1_000]] if warning else [])
