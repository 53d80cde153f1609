"""From pushes to PipelineRuns, beside what the API server does alone: one at a time, and 300 at once."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import click
import urllib3
from kubernetes import client, config

from bench import load
from bench.measured import Row, receiver
from receiver.clients.posting import create_namespaced_custom_object
from tests.controlplane.cluster import ControlPlane
from tests.support.planes import Planes, delivery_headers
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid
from tests.support.waiting import wait_until

BURST = 300
PAUSE_SECONDS = 0.5
"""Between two that are timed alone: Tekton works on a run for some 100 ms after its creation, which would count for the next."""


def latency(plane: ControlPlane, planes: Planes) -> Iterator[Row]:
    """From sending a push to the moment its run exists, as the API server's own watch tells it."""
    seconds: list[float] = []
    acknowledged: list[float] = []
    alone = sorted(single_creates(plane, planes))
    yield Row("one plain create, idle, p50 (the floor of the next two)", statistics.median(alone) * 1e3, "ms")
    watch = RunWatch(plane, planes)
    for number in range(60):
        content = encoded(seeded_push(f"latency {number}"))
        ready = load.request(planes.url, delivery_headers(content, new_guid()), content)
        sent = time.perf_counter()
        answer = exchange(planes.port, ready)
        answered = time.perf_counter()
        acknowledged.append(answered - sent)
        seconds.append(watch.seen(json.loads(answer)["runs"][0]["run"]) - sent)
        time.sleep(PAUSE_SECONDS)
    yield Row("push -> acknowledged, idle, p50", statistics.median(acknowledged) * 1e3, "ms")
    seconds = sorted(seconds[10:])
    yield Row("push -> run exists, idle, p50", statistics.median(seconds) * 1e3, "ms", "<= 10 ms")
    yield Row("push -> run exists, idle, p90", seconds[int(len(seconds) * 0.9)] * 1e3, "ms", "<= 15 ms")


def exchange(port: int, request: bytes) -> bytes:
    """Send a request over a connection of its own, as GitHub does; return the body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.read()


class RunWatch:
    """Learns of PipelineRuns by a watch of its own, on a thread."""

    def __init__(self, plane: ControlPlane, planes: Planes) -> None:
        self._found: dict[str, float] = {}
        self._changed = threading.Condition()
        api = client.CustomObjectsApi(config.new_client_from_config(str(plane.kubeconfig)))
        namespace = planes.environment["BENCH_NAMESPACE"]
        version = api.list_namespaced_custom_object("tekton.dev", "v1", namespace, "pipelineruns")["metadata"][
            "resourceVersion"
        ]
        stream = api.list_namespaced_custom_object(
            "tekton.dev", "v1", namespace, "pipelineruns", watch=True, resource_version=version, _preload_content=False
        )
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        rest = b""
        # The control plane is stopped in the end, and the watch with it.
        with suppress(urllib3.exceptions.HTTPError):
            for chunk in stream.stream(amt=None):
                now = time.perf_counter()
                *lines, rest = (rest + chunk).split(b"\n")
                with self._changed:
                    for line in lines:
                        self._found.setdefault(json.loads(line)["object"]["metadata"]["name"], now)
                    self._changed.notify_all()

    def seen(self, name: str) -> float:
        """Return when the run was seen first; waits for it."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._found, timeout=10):
                raise click.ClickException(f"the run {name} did not appear within 10 s")
            return self._found[name]


def bursts(plane: ControlPlane, folder: Path) -> Iterator[Row]:
    """300 pushes at once, and the ceiling: 300 plain concurrent creates through the same client, before and after."""
    ceilings = []
    with receiver(plane, folder / "burst") as planes:
        ceilings.append(raw_creates(plane, planes))
        requests = [
            load.request(planes.url, delivery_headers(content, new_guid()), content)
            for content in (encoded(seeded_push(f"burst {number}")) for number in range(BURST))
        ]
        already = count_runs(plane, planes)
        began = time.perf_counter()
        load.run(planes.url, requests, connections=32)
        wait_until(lambda: count_runs(plane, planes) >= already + BURST, what="300 runs", seconds=60, every=0.05)
        seconds = time.perf_counter() - began
        ceilings.append(raw_creates(plane, planes))
    ceiling = statistics.mean(ceilings)
    yield Row(f"plain concurrent creates (ceiling), {BURST}", ceiling, "s", "", f"{BURST / ceiling:,.0f}/s")
    yield Row(
        f"{BURST} pushes at once -> {BURST} runs",
        seconds,
        "s",
        "<= 2.5 s",
        f"{ceiling / seconds:.0%} of the ceiling (goal 60 %)",
    )


def single_creates(plane: ControlPlane, planes: Planes) -> Iterator[float]:
    """Seconds of creates with nothing else going on, as far apart as the pushes of `latency`."""
    create = creator(plane, planes, "single")
    for number in range(40):
        began = time.perf_counter()
        create(number)
        yield time.perf_counter() - began
        time.sleep(PAUSE_SECONDS)


def raw_creates(plane: ControlPlane, planes: Planes) -> float:
    """Seconds for 300 creates with 16 threads and nothing else."""
    create = creator(plane, planes, f"raw-{time.monotonic_ns()}")
    with ThreadPoolExecutor(16) as pool:
        began = time.perf_counter()
        list(pool.map(create, range(BURST)))
        return time.perf_counter() - began


def creator(plane: ControlPlane, planes: Planes, name: str) -> Callable[[int], object]:
    """Return what creates a run, by its number, through the client that the receiver uses.

    The manifest is the one that the receiver makes of a push: what a create costs the API server depends on it.
    """
    configuration = client.Configuration()
    config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    configuration.connection_pool_maxsize = 24
    api = client.ApiClient(configuration)
    file = planes.folder / f"{name}.json"
    file.write_bytes(encoded(seeded_push(name)))
    (explained,) = json.loads(planes.command("explain", str(file), "-o", "json").stdout)
    manifest = explained["manifest"]

    def create(number: int) -> object:
        run = {**manifest, "metadata": {**manifest["metadata"], "name": f"{name}-{number}"}}
        return create_namespaced_custom_object(
            api,
            group="tekton.dev",
            version="v1",
            plural="pipelineruns",
            body=run,
            query={"fieldValidation": "Strict"},
            _request_timeout=(3.0, 10.0),
        )

    return create


def count_runs(plane: ControlPlane, planes: Planes) -> int:
    """How many PipelineRuns there are, by the count that a list of one gives; cheap enough to poll."""
    path = f"/apis/tekton.dev/v1/namespaces/{planes.environment['BENCH_NAMESPACE']}/pipelineruns?limit=1"
    answer = plane.api.request("GET", path)
    return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0)
