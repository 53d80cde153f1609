"""What can be seen of a receiver from outside: its journal, its metrics, its runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import requests

from receiver.journal.schema import WAITING, jobs, transitions
from tests.controlplane.api import Api
from tests.support.journals import opened, rows
from tests.support.planes import Planes

KEY = "striv-receiver.dev/key"


def job_rows(planes: Planes) -> list[dict[str, Any]]:
    """Return the rows of all jobs."""
    with opened(planes.folder, migrated=False) as engine:
        return rows(engine, jobs)


def states(planes: Planes) -> Counter[str]:
    """Return how many jobs there are in each state."""
    return Counter(job["state"] for job in job_rows(planes))


def steps(planes: Planes) -> Counter[tuple[bytes, str, str]]:
    """Return how often each job went from a state to another."""
    with opened(planes.folder, migrated=False) as engine:
        found = rows(engine, transitions)
    return Counter((row["job_key"], row["from_state"], row["to_state"]) for row in found)


def postponements(planes: Planes) -> Counter[str]:
    """Return why jobs were put off, and how many: noted for each job when it is put off for the first time."""
    with opened(planes.folder, migrated=False) as engine:
        found = rows(engine, transitions)
    return Counter(row["reason"] for row in found if row["from_state"] == row["to_state"] == WAITING)


def integrity(planes: Planes) -> str:
    """Return what SQLite says of the file: `ok`."""
    with opened(planes.folder, migrated=False) as engine, engine.connect() as connection:
        return str(connection.exec_driver_sql("PRAGMA integrity_check").scalar())


def runs(api: Api, namespace: str) -> list[dict[str, Any]]:
    """Return the PipelineRuns of a namespace."""
    return api.list("tekton.dev/v1", "PipelineRun", namespace=namespace)


def run_names(api: Api, namespace: str) -> set[str]:
    """Return the names of the PipelineRuns of a namespace."""
    return {run["metadata"]["name"] for run in runs(api, namespace)}


def metrics(port: int) -> dict[str, float]:
    """Return the samples of a private port: name with labels -> value."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
