"""An API server at the wire for whoever follows runs: lists in pages, watches from a version on, a history that is compacted.

Modelled on kube-apiserver 1.36 and https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.api_server import NAMESPACE, Fault, Handler, Server, served

Object = dict[str, Any]
LIST, WATCH, GET, TASKRUNS = "list", "watch", "get", "taskruns"
ENDED, CUT, HALF_LINE, GARBAGE, GONE, FAILED = "ended", "cut", "half a line", "garbage", "gone", "failed"
WAYS_TO_END = (ENDED, CUT, HALF_LINE, GARBAGE, GONE, FAILED)
"""How a watch ends: as the server's time-out does, without a word, amid an event, with what is no event, with ERROR events."""
_PATH = re.compile(r"/apis/tekton\.dev/v1/namespaces/([a-z0-9-]+)/(pipelineruns|taskruns)(?:/([^/]+))?")
_EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
_FAILED = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd: leader changed"}


@dataclass(frozen=True)
class Asked:
    """One request: its kind, its namespace, what it was for (a name, a resource version, a selector), and when it came."""

    kind: str
    namespace: str
    what: str
    at: float


@dataclass
class _Stream:
    namespace: str
    selector: str
    version: int
    end: str = ""


class WatchServer(Server):
    """PipelineRuns by namespace and name, what happened to them, the TaskRuns, and who watches."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.away = False
        self.token = ""
        self.taskruns: list[Object] = []
        self.page_size = 250
        self.gone_as_status = False
        """Whether a watch from too old a version is answered with HTTP 410, or else with an ERROR event."""
        self._changed = threading.Condition()
        self._version = 1_000
        self._compacted = 0
        self._runs: dict[tuple[str, str], Object] = {}
        self._history: list[tuple[int, str, Object | None, Object]] = []  # version, type, the run before and after
        self._streams: list[_Stream] = []
        self._silent = False

    # ---------------------------------------------------------------- what a test does
    def put(self, run: Object) -> None:
        """Make a run, or change it."""
        with self._changed:
            place = (run["metadata"]["namespace"], run["metadata"]["name"])
            before = self._runs.get(place)
            self._runs[place] = self._happened("ADDED" if before is None else "MODIFIED", before, run)

    def run(self, name: str, *, namespace: str = NAMESPACE) -> Object:
        """Return a run as it is."""
        with self._changed:
            return self._runs[namespace, name]

    def delete(self, name: str, *, namespace: str = NAMESPACE) -> None:
        """Remove a run."""
        with self._changed:
            run = self._runs.pop((namespace, name))
            self._happened("DELETED", run, run)

    def bookmark(self) -> int:
        """Tell all who watch how far they are, and return that."""
        with self._changed:
            self._happened("BOOKMARK", None, {"kind": "PipelineRun", "metadata": {}})
            return self._version

    def compact(self) -> None:
        """Forget all history up to now."""
        with self._changed:
            self._compacted = self._version

    @contextmanager
    def unseen(self, end: str) -> Iterator[None]:
        """What happens meanwhile no open watch is told; then each ends in this way."""
        with self._changed:
            self._silent = True
        yield
        with self._changed:
            for stream in self._streams:
                stream.end = end
            self._silent = False
            self._changed.notify_all()

    def close(self) -> None:
        """End all watches."""
        with self.unseen(ENDED):
            pass

    def count(self, kind: str) -> int:
        """Return how often this was asked."""
        return sum(asked.kind == kind for asked in list(self.asked))

    @property
    def watching(self) -> int:
        """How many watches are open and have not been told to end."""
        with self._changed:
            return sum(not stream.end for stream in self._streams)

    @property
    def told(self) -> int:
        """Up to which version every open watch has been served."""
        with self._changed:
            return min(stream.version for stream in self._streams)

    def _happened(self, kind: str, before: Object | None, run: Object) -> Object:
        self._version += 1
        changed = {**run, "metadata": {**run["metadata"], "resourceVersion": str(self._version)}}
        self._history.append((self._version, kind, before, changed))
        self._changed.notify_all()
        return changed

    # ---------------------------------------------------------------- what a client asks
    def page(self, namespace: str, selector: str, *, limit: int, after: str) -> Object:
        """Return a page of a list, beginning behind the name `after`."""
        with self._changed:
            found = [run for (where, _), run in sorted(self._runs.items()) if where == namespace]
            found = [run for run in found if _selected(run, selector) and run["metadata"]["name"] > after]
            page = found[: min(limit, self.page_size)]
            token = page[-1]["metadata"]["name"] if len(page) < len(found) else ""
            return {"items": page, "metadata": {"resourceVersion": str(self._version), "continue": token}}

    def get(self, namespace: str, name: str) -> Object | None:
        """Return a run, None when there is none."""
        with self._changed:
            return self._runs.get((namespace, name))

    def open_stream(self, namespace: str, selector: str, version: int) -> _Stream | None:
        """Begin a watch; None when the history does not reach back so far."""
        with self._changed:
            if version < self._compacted:
                return None
            self._streams.append(stream := _Stream(namespace, selector, version))
            return stream

    def close_stream(self, stream: _Stream) -> None:
        """End a watch."""
        with self._changed:
            self._streams.remove(stream)

    def next_events(self, stream: _Stream) -> list[Object]:
        """Wait until something is to be told on this watch, or it is to end, which it then does without another event."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: stream.end or (not self._silent and stream.version < self._version))
                if stream.end:
                    return []
                news = [each for each in self._history if each[0] > stream.version]
                stream.version = self._version
                told = [_told(stream, kind, before, after) for _, kind, before, after in news]
                if events := [event for event in told if event is not None]:
                    return events


def _selected(run: Object, selector: str) -> bool:
    labels = run["metadata"].get("labels") or {}
    return all(labels.get(term.partition("=")[0]) == term.partition("=")[2] for term in selector.split(","))


def _told(stream: _Stream, kind: str, before: Object | None, after: Object) -> Object | None:
    """What a watch is told of a change: for a run that enters or leaves the selection, that it was added or deleted."""
    if kind == "BOOKMARK":
        return {"type": kind, "object": after}
    if after["metadata"]["namespace"] != stream.namespace:
        return None
    was = before is not None and _selected(before, stream.selector)
    is_selected = kind != "DELETED" and _selected(after, stream.selector)
    if not was:
        return {"type": "ADDED", "object": after} if is_selected else None
    if is_selected:
        return {"type": "MODIFIED", "object": after}
    assert before is not None
    # As it was while it was selected, under the version of the change.
    version = after["metadata"]["resourceVersion"]
    return {"type": "DELETED", "object": {**before, "metadata": {**before["metadata"], "resourceVersion": version}}}


class _WatchHandler(Handler):
    api: WatchServer

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        found = _PATH.fullmatch(url.path)
        kind = self._kind(found, query)
        if found is None or kind is None:
            self.refuse_unknown()
            return
        namespace, _, name = found.groups()
        selector = query.get("labelSelector", "")
        what = {LIST: query.get("continue", ""), WATCH: query.get("resourceVersion", ""), GET: name}.get(kind, selector)
        self.api.asked.append(Asked(kind, namespace, what, time.monotonic()))
        fault = Fault() if self.api.away else self.api.faults[kind].popleft() if self.api.faults[kind] else None
        if self.api.token and self.headers.get("Authorization") != f"Bearer {self.api.token}":
            fault = fault or Fault(401, "Unauthorized")
        if fault is not None:
            self._fail(fault)
        elif kind == WATCH:
            self._watch(namespace, selector, int(what))
        elif kind == GET:
            run = self.api.get(namespace, name)
            self.send(404, {"kind": "Status", "message": f'"{name}" not found'}) if run is None else self.send(200, run)
        elif kind == TASKRUNS:
            runs = [run for run in self.api.taskruns if _selected(run, selector)]
            self.send(200, {"items": runs, "metadata": {"resourceVersion": "1"}})
        else:
            self.send(200, self.api.page(namespace, selector, limit=int(query["limit"]), after=what))

    @staticmethod
    def _kind(found: re.Match[str] | None, query: dict[str, str]) -> str | None:
        if found is None:
            return None
        plural, name = found.group(2, 3)
        asked = set(query)
        if plural == "pipelineruns" and name:
            return GET if not asked else None
        if "labelSelector" not in query or name:
            return None
        if plural == "taskruns":
            return TASKRUNS if asked == {"labelSelector", "limit"} else None
        if asked == {"labelSelector", "watch", "resourceVersion", "allowWatchBookmarks", "timeoutSeconds"}:
            return WATCH
        return LIST if asked - {"continue"} == {"labelSelector", "limit"} else None

    def _fail(self, fault: Fault) -> None:
        if fault.status:
            self.send(fault.status, {"kind": "Status", "message": fault.message}, fault.headers)
        else:
            self.cut()

    def _watch(self, namespace: str, selector: str, version: int) -> None:
        stream = self.api.open_stream(namespace, selector, version)
        if stream is None and self.api.gone_as_status:
            self.send(410, _EXPIRED)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if stream is None:
            self._chunk(_line({"type": "ERROR", "object": _EXPIRED}) + b"\n")
            self._chunk(b"")
            return
        try:
            while events := self.api.next_events(stream):
                self._chunk(b"".join(_line(event) + b"\n" for event in events))
            self._end(stream.end)
        except OSError:
            self.close_connection = True
        finally:
            self.api.close_stream(stream)

    def _end(self, how: str) -> None:
        last = {
            HALF_LINE: _line({"type": "MODIFIED", "object": {}})[:-5],
            GARBAGE: b"<html>\n",
            GONE: _line({"type": "ERROR", "object": _EXPIRED}) + b"\n",
            FAILED: _line({"type": "ERROR", "object": _FAILED}) + b"\n",
        }.get(how)
        if last:
            self._chunk(last)
        if how == CUT:
            self.cut()
        else:
            self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))


def _line(event: Object) -> bytes:
    return json.dumps(event).encode()


@contextmanager
def watch_server() -> Iterator[WatchServer]:
    """A server that runs can be followed on."""
    with served(WatchServer(), _WatchHandler) as state:
        yield state
