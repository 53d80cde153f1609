"""`make bench`: how fast the receiver is, beside the raw ceiling on the same machine in the same run.

Prints a table and writes bench/results.json. Load goes to the loopback alone. Goals stand beside the figures; nothing is
asserted: two noisy cores are no judge.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import click
import urllib3
from kubernetes import client, config

from bench import load
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.controlplane.waiting import wait_until
from tests.support.payloads import body, guid, push
from tests.support.planes import SECRET, Planes, delivery_headers

RESULTS = Path(__file__).with_name("results.json")
PADDING = "x" * 6_500  # a usual push has about 8 KB
BURST = 300


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, the figure with its unit, and the goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    detail: str = ""


def main() -> None:
    """Run all measurements."""
    rows: list[Row] = []

    def note(*found: Row) -> None:
        for row in found:
            rows.append(row)
            click.echo(f"{row.name:58} {row.value:>10,.1f} {row.unit:8} {row.goal:22} {row.detail}")

    folder = Path(tempfile.mkdtemp(prefix="striv-receiver-bench-"))
    try:
        with ControlPlane.start(folder / "controlplane") as plane:
            click.echo(f"control plane: {plane.server}; {platform.python_version()}, {len_cpus()} cores\n")
            measure(plane, folder, note)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.write_text(json.dumps({"rows": [asdict(row) for row in rows], "cores": len_cpus()}, indent=1) + "\n")
    click.echo(f"\nwritten to {RESULTS}")


def measure(plane: ControlPlane, folder: Path, note: Callable[..., None]) -> None:
    """Measure everything, each part with a receiver of its own."""
    with receiver(plane, folder / "start") as planes:
        note(*start_up(planes), *memory(planes, "idle"))
    for connections in (16, 64):
        with receiver(plane, folder / f"ack{connections}", planes_=("serve",)) as planes:
            note(*acknowledgements(planes, connections))
    with receiver(plane, folder / "flat", planes_=("serve",)) as planes:
        before = pss_megabytes(planes)
        load.run(planes.url, endless(planes, "filtered", 2_000), connections=32, seconds=deliveries_seconds())
        after = pss_megabytes(planes)
        listed = planes.folder / "journal.db"
        note(Row("serve: growth over a flood of filtered deliveries", after - before, "MB", "flat"))
        note(Row("journal after that flood", listed.stat().st_size / 1e6, "MB"))
    with receiver(plane, folder / "latency") as planes:
        note(*latency(plane, planes))
    note(*bursts(plane, folder))


def acknowledgements(planes: Planes, connections: int) -> Iterator[Row]:
    """Answers per second to forged, filtered and matched pushes."""
    goals = {"forged": ">= 8,000/s", "filtered": ">= 5,000/s, 25 ms", "matched": ">= 2,000/s"}
    for kind, goal in goals.items():
        load.run(planes.url, endless(planes, kind, 500), connections=connections, seconds=1)
        result = load.run(planes.url, endless(planes, kind, 12_000), connections=connections, seconds=4)
        detail = f"p50 {result.p50 * 1e3:.1f}, p99 {result.p99 * 1e3:.1f}, p99.9 {result.p999 * 1e3:.1f} ms {result.statuses}"
        yield Row(f"{kind} pushes, {connections} connections", result.rate, "/s", goal, detail)


_numbers = count()


def endless(planes: Planes, kind: str, made: int) -> Iterator[bytes]:
    """Requests of a kind: new ones for matched pushes, `made` of them, and the same few again for the others."""
    several = made if kind == "matched" else 200
    branch = "gh-readonly-queue/main/pr-1" if kind == "filtered" else "main"
    ready = []
    for _ in range(several):
        content = body(push(f"bench {next(_numbers)}", branch=branch, padding=PADDING))
        key = b"a guess" if kind == "forged" else SECRET
        ready.append(load.request(planes.url, delivery_headers(content, guid(), key=key), content))
    while True:
        yield from ready
        if kind == "matched":
            return


def latency(plane: ControlPlane, planes: Planes) -> Iterator[Row]:
    """From sending a push to the moment its run exists, as the API server's own watch tells it."""
    seconds: list[float] = []
    alone = sorted(single_creates(plane, planes))
    yield Row("one plain create, idle, p50 (the floor of the next two)", statistics.median(alone) * 1e3, "ms")
    watch = RunWatch(plane, planes)
    for number in range(60):
        sent = time.perf_counter()
        name = planes.push(body(push(f"latency {number}")), guid()).json()["runs"][0]["run"]
        seconds.append(watch.seen(name) - sent)
        time.sleep(0.05)
    seconds = sorted(seconds[10:])
    yield Row("push -> run exists, idle, p50", statistics.median(seconds) * 1e3, "ms", "<= 10 ms")
    yield Row("push -> run exists, idle, p90", seconds[int(len(seconds) * 0.9)] * 1e3, "ms", "<= 15 ms")


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
            load.request(planes.url, delivery_headers(content, guid()), content)
            for content in (body(push(f"burst {number}")) for number in range(BURST))
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
    """Seconds of creates one after another, through the same client and with nothing else going on."""
    api = client.CustomObjectsApi(config.new_client_from_config(str(plane.kubeconfig)))
    namespace = planes.environment["BENCH_NAMESPACE"]
    for number in range(40):
        run = {
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "metadata": {"name": f"single-{number}"},
            "spec": {"pipelineRef": {"name": "deploy-striv"}},
        }
        began = time.perf_counter()
        api.create_namespaced_custom_object(
            "tekton.dev", "v1", namespace, "pipelineruns", run, field_validation="Strict"
        )
        yield time.perf_counter() - began


def raw_creates(plane: ControlPlane, planes: Planes) -> float:
    """Seconds for 300 creates with 16 threads and nothing else."""
    configuration = client.Configuration()
    config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    configuration.connection_pool_maxsize = 24
    api = client.CustomObjectsApi(client.ApiClient(configuration))
    namespace = planes.environment["BENCH_NAMESPACE"]
    template = plane.api.list("tekton.dev/v1", "PipelineRun", namespace=namespace)
    spec = template[0]["spec"] if template else {"pipelineRef": {"name": "deploy-striv"}}
    stamp = time.monotonic_ns()

    def create(number: int) -> None:
        run = {
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "metadata": {"name": f"raw-{stamp}-{number}"},
            "spec": spec,
        }
        api.create_namespaced_custom_object(
            "tekton.dev", "v1", namespace, "pipelineruns", run, field_validation="Strict"
        )

    with ThreadPoolExecutor(16) as pool:
        began = time.perf_counter()
        list(pool.map(create, range(BURST)))
        return time.perf_counter() - began


def count_runs(plane: ControlPlane, planes: Planes) -> int:
    """How many PipelineRuns there are, by the count that a list of one gives; cheap enough to poll."""
    path = f"/apis/tekton.dev/v1/namespaces/{planes.environment['BENCH_NAMESPACE']}/pipelineruns?limit=1"
    answer = plane.api.request("GET", path)
    return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0)


def start_up(planes: Planes) -> Iterator[Row]:
    """From exec to the first 200 of /healthz, each plane alone."""
    planes.stop()
    for plane in ("serve", "work"):
        began = time.perf_counter()
        planes.start(plane)
        yield Row(f"start of {plane}, with `journal migrate` before it", time.perf_counter() - began, "s")


def memory(planes: Planes, when: str) -> Iterator[Row]:
    """PSS of both planes."""
    yield Row(f"memory, {when}: PSS of {len(planes.processes)} processes", pss_megabytes(planes), "MB", "<= 160 MB")


def pss_megabytes(planes: Planes) -> float:
    """The proportional set size of all planes that run."""
    total = 0
    for process in planes.processes.values():
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def deliveries_seconds() -> float:
    """How long the flood for the memory test lasts."""
    return float(sys.argv[1]) if len(sys.argv) > 1 else 25.0


def len_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


_namespaces = count()


@contextmanager
def receiver(plane: ControlPlane, folder: Path, *, planes_: tuple[str, ...] = ("serve", "work")) -> Iterator[Planes]:
    """A receiver with an empty journal and a namespace of its own."""
    namespace = f"bench-{next(_namespaces)}"
    make_namespace(plane.api, namespace)
    planes = Planes.prepare(folder, kubeconfig=plane.kubeconfig, namespace=namespace)
    planes.environment["BENCH_NAMESPACE"] = namespace
    planes.start(*planes_)
    try:
        yield planes
    finally:
        planes.stop()


if __name__ == "__main__":
    main()
