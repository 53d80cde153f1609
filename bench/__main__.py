"""`make bench`: how fast the receiver is, beside the raw ceiling on the same machine in the same run.

Prints a table and writes bench/results.json. Load goes to the loopback alone. Goals stand beside the figures; nothing is
asserted: two noisy cores are no judge.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import click

from bench import load
from bench.measured import Row, endless, pss_megabytes, receiver
from bench.runs import bursts, latency
from bench.wake import waking
from receiver.journal.engine import sqlite_module
from tests.controlplane.cluster import ControlPlane
from tests.support.planes import Planes, free_port
from tests.support.waiting import wait_until

RESULTS = Path(__file__).with_name("results.json")
WARM_UP, FLOOD, MATCHED = 10_000, 100_000, 4_000


def main() -> None:
    """Run all measurements."""
    rows: list[Row] = []

    def note(*found: Row) -> None:
        for row in found:
            rows.append(row)
            click.echo(f"{row.name:62} {row.value:>10,.1f} {row.unit:8} {row.goal:22} {row.detail}")

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
        note(*growth(planes))
    note(*waking(folder / "wake"))
    with receiver(plane, folder / "latency") as planes:
        note(*latency(plane, planes))
    note(*bursts(plane, folder))


def acknowledgements(planes: Planes, connections: int) -> Iterator[Row]:
    """Answers per second to forged, filtered and matched pushes, beside those of the HTTP server alone."""
    with bare_server() as port:
        pushes = endless(planes, "filtered", 0)
        ceiling = load.run(f"http://127.0.0.1:{port}/webhook", pushes, connections=connections, seconds=4)
    yield Row(f"the HTTP server alone (ceiling), {connections} connections", ceiling.rate, "/s", "", told(ceiling))
    goals = {"forged": ">= 8,000/s", "filtered": ">= 5,000/s, 25 ms", "matched": ">= 2,000/s"}
    for kind, goal in goals.items():
        load.run(planes.url, endless(planes, kind, 500), connections=connections, seconds=1)
        result = load.run(planes.url, endless(planes, kind, 12_000), connections=connections, seconds=4)
        detail = f"{told(result)}, {result.rate / ceiling.rate:.0%} of the ceiling"
        yield Row(f"{kind} pushes, {connections} connections", result.rate, "/s", goal, detail)


def told(result: load.Result) -> str:
    """Return latencies and statuses as the table has them."""
    p50, p99, p999 = (f"{seconds * 1e3:.1f}" for seconds in (result.p50, result.p99, result.p999))
    return f"p50 {p50}, p99 {p99}, p99.9 {p999} ms {result.statuses}"


@contextmanager
def bare_server() -> Iterator[int]:
    """The HTTP server without a receiver; yields its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.bare", str(port)])
    try:
        wait_until(lambda: is_open(port), what="the bare server")
        yield port
    finally:
        process.terminate()
        process.wait()


def is_open(port: int) -> bool:
    """Whether somebody takes connections at this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def growth(planes: Planes) -> Iterator[Row]:
    """What many deliveries leave behind: in memory nothing, in the journal a row or, of a push that runs, its payload too."""
    filtered = endless(planes, "filtered", 0)
    load.run(planes.url, islice(filtered, WARM_UP), connections=32)
    memory_before, journal_before = pss_megabytes(planes), journal_bytes(planes)
    load.run(planes.url, islice(filtered, FLOOD), connections=32)
    memory_after, journal_after = pss_megabytes(planes), journal_bytes(planes)
    detail = f"{memory_before:.1f} MB after {WARM_UP:,}, {memory_after:.1f} MB after {FLOOD:,} more"
    yield Row(f"memory of serve: growth over {FLOOD:,} deliveries", memory_after - memory_before, "MB", "flat", detail)
    yield Row("journal: bytes for a filtered push", (journal_after - journal_before) / FLOOD, "bytes")
    load.run(planes.url, endless(planes, "matched", MATCHED), connections=32)
    each = (journal_bytes(planes) - journal_after) / MATCHED
    yield Row("journal: bytes for a matched push of 8 KB", each, "bytes")


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


def journal_bytes(planes: Planes) -> int:
    """The journal's size with everything in its main file, as it is once nobody has it open."""
    with closing(sqlite_module().connect(planes.folder / "journal.db", timeout=10)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (planes.folder / "journal.db").stat().st_size


def len_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
