"""What every measurement needs: a receiver of its own, requests to send it, and a line of the table to fill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path

from bench import load
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.support.planes import SECRET, Planes, delivery_headers
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid

PADDING = "x" * 5_830  # a usual push has about 8 KB


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, the figure with its unit, and the goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    detail: str = ""


_numbers = count()


def endless(planes: Planes, kind: str, made: int) -> Iterator[bytes]:
    """Requests of a kind: new ones for matched pushes, `made` of them, and the same few again for the others.

    All are made here, before the first is asked for: making one costs the load generator more than sending it.
    """
    several = made if kind == "matched" else 200
    branch = "gh-readonly-queue/main/pr-1" if kind == "filtered" else "main"
    ready = []
    for _ in range(several):
        content = encoded(seeded_push(f"bench {next(_numbers)}", branch=branch, padding=PADDING))
        key = b"a guess" if kind == "forged" else SECRET
        ready.append(load.request(planes.url, delivery_headers(content, new_guid(), key=key), content))
    return iter(ready) if kind == "matched" else cycle(ready)


def pss_megabytes(planes: Planes) -> float:
    """The proportional set size of all planes that run."""
    total = 0
    for process in planes.processes.values():
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


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
