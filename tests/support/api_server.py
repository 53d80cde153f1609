"""An API server at the wire: PipelineRuns over HTTP, stateful, and an error for every request that it does not know."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

NAMESPACE = "striv-ci"
COLLECTION = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelineruns"


@dataclass(frozen=True)
class Fault:
    """What happens to one POST: an answer of this status, or none; `takes_effect` is whether the run is made all the same."""

    status: int = 0
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    takes_effect: bool = False


class Server:
    """What every fake has: a port, a kubeconfig that leads to it, and a list of what it did not understand."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.port = 0

    def kubeconfig(self, folder: Path, *, token: str = "") -> Path:
        """Write a kubeconfig for this server and return its path."""
        file = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "fake", "user": {"token": token} if token else {}}],
        }
        file.write_text(json.dumps(config))
        return file

    def close(self) -> None:
        """End what would wait for ever."""


class ApiServer(Server):
    """Remembers runs by name and how often each was made."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, dict[str, Any]] = {}
        self.made: list[str] = []
        self.faults: deque[Fault] = deque()
        self.ready = True
        self.away = False
        self.listed = 0

    def post(self, run: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Make a run."""
        name = run["metadata"]["name"]
        if name in self.runs:
            return 409, {"kind": "Status", "code": 409, "message": f'pipelineruns.tekton.dev "{name}" already exists'}
        self.made.append(name)
        self.runs[name] = {**run, "metadata": {**run["metadata"], "uid": f"uid-{len(self.made)}"}}
        return 201, self.runs[name]

    def list(self, selector: str, limit: int) -> tuple[int, dict[str, Any]]:
        """Return the runs with these labels."""
        wanted = dict(part.split("=", 1) for part in selector.split(","))
        items = [run for run in self.runs.values() if wanted.items() <= run["metadata"]["labels"].items()]
        return 200, {"items": items[:limit], "metadata": {"resourceVersion": "1"}}

    def get(self, name: str) -> tuple[int, dict[str, Any]]:
        """Return a run."""
        if name not in self.runs:
            return 404, {"kind": "Status", "code": 404, "message": f'pipelineruns.tekton.dev "{name}" not found'}
        return 200, self.runs[name]


AnyServer = TypeVar("AnyServer", bound=Server)


class Handler(BaseHTTPRequestHandler):
    """Answers in JSON; what it does not know goes to the server's list and is refused."""

    api: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        # Whoever asked may have gone meanwhile.
        with suppress(OSError):
            self.end_headers()
            self.wfile.write(content)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def refuse_unknown(self) -> None:
        self.api.unknown.append(f"{self.command} {self.path}")
        self.send(400, {"kind": "Status", "message": "the fake knows no such request"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests read the server's state."""


class _ApiHandler(Handler):
    api: ApiServer

    def do_POST(self) -> None:
        run = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = urlsplit(self.path)
        if url.path != COLLECTION or parse_qs(url.query).get("fieldValidation") != ["Strict"]:
            self.refuse_unknown()
            return
        fault = self.api.faults.popleft() if self.api.faults else None
        if fault is None or fault.takes_effect:
            answer = self.api.post(run)
        if fault is None:
            self.send(*answer)
        elif fault.status:
            self.send(fault.status, {"kind": "Status", "message": fault.message}, fault.headers)
        else:
            self.cut()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, _, name = url.path.rpartition("/")
        if path == COLLECTION:
            self.send(*self.api.get(name))
        elif url.path == COLLECTION and "watch" in parse_qs(url.query):
            # Nothing happens, and the watch is over.
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif url.path == COLLECTION and not self.api.away:
            query = parse_qs(url.query)
            self.api.listed += 1
            self.send(*self.api.list(query["labelSelector"][0], int(query["limit"][0])))
        elif url.path == COLLECTION:
            self.api.listed += 1
            self.cut()
        elif self.path == "/readyz":
            self.send(200 if self.api.ready else 500, {})
        else:
            self.refuse_unknown()


@contextmanager
def api_server(state: ApiServer | None = None) -> Iterator[ApiServer]:
    """A server that PipelineRuns are made on; `state` is what it does, if it is not the usual."""
    with served(state or ApiServer(), _ApiHandler) as server:
        yield server


@contextmanager
def served(state: AnyServer, handler: type[Handler]) -> Iterator[AnyServer]:
    """A server on a port of its own; at the end it must have understood every request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"api": state}))
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.close()
        server.shutdown()
        server.server_close()
        thread.join()
    assert state.unknown == []
