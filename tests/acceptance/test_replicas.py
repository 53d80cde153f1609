"""Two serve and two work on one PostgreSQL: no replica's death, and not the database's, loses or doubles a push."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from sqlalchemy import Engine

from receiver.journal.schema import deliveries, jobs, pushes, transitions
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until
from tests.support.journals import count, rows
from tests.support.load import Pushed, new_push, send
from tests.support.planes import Planes
from tests.support.postgres import OWNER, SERVE, WORK, Database, PostgreSQL

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
FULL = os.environ.get("STRIV_FULL") == "1"
PUSHES = 300 if FULL else 80
AWAY_SECONDS = 20.0 if FULL else 2.0
LEASE_SECONDS = 3
V1 = "tekton.dev/v1"


class Replicas:
    """Two pods, each with both planes, as k8s/overlays/postgresql has them: each plane connects as its own role."""

    def __init__(self, folder: Path, database: Database, *, kubeconfig: Path, namespace: str) -> None:
        self.database, self.namespace = database, namespace
        changes: dict[str, dict[str, Any]] = {
            "journal": {"url": database.url_text(OWNER)},
            "work": {"lease_seconds": LEASE_SECONDS, "relist_seconds": 5},
        }
        self.pods = [
            Planes.prepare(folder / name, kubeconfig=kubeconfig, namespace=namespace, changes=changes) for name in "ab"
        ]

    def start(self) -> None:
        for pod in self.pods:
            for plane, role in (("serve", SERVE), ("work", WORK)):
                pod.start(plane, environment={"RECEIVER__JOURNAL__URL": self.database.url_text(role)})

    def stop(self) -> None:
        for pod in self.pods:
            pod.stop()

    def states(self, engine: Engine) -> Counter[str]:
        return Counter(row["state"] for row in rows(engine, jobs))

    def ready(self, pod: Planes) -> int:
        return requests.get(f"http://127.0.0.1:{pod.port}/readyz", timeout=10).status_code


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A server that these tests may crash; `postgresql` is everybody's."""
    with PostgreSQL.started() as started:
        yield started


@pytest.fixture
def replicas(
    postgresql: PostgreSQL,  # noqa: ARG001 - fails or skips where there is none
    server: PostgreSQL,
    control_plane: ControlPlane,
    run_namespace: str,
    tmp_path: Path,
) -> Iterator[Replicas]:
    server.ensure_started()
    with server.database() as database:
        replicas = Replicas(tmp_path, database, kubeconfig=control_plane.kubeconfig, namespace=run_namespace)
        try:
            replicas.start()
            yield replicas
        finally:
            replicas.stop()


def assert_one_run_each(replicas: Replicas, api: Api, sent: Sequence[Pushed], *, seconds: float) -> None:
    """Wait until no job waits any more, then compare answers, journal and cluster."""
    with replicas.database.engine(WORK) as engine:
        wait_until(lambda: replicas.states(engine)["waiting"] == 0, what="all jobs to start", seconds=seconds)
        names = {name for pushed in sent for name in pushed.runs}
        assert all(len(pushed.runs) == 1 for pushed in sent)
        assert len(names) == len(sent)
        runs = [run["metadata"]["name"] for run in api.list(V1, "PipelineRun", namespace=replicas.namespace)]
        assert sorted(runs) == sorted(names)
        assert {row["run_name"] for row in rows(engine, jobs)} == names
        assert count(engine, pushes) == len(sent)
        begun = Counter(row["job_key"] for row in rows(engine, transitions) if row["to_state"] == "started")
        assert set(begun.values()) == {1}


def test_what_both_replicas_are_told_at_the_same_time_runs_once(
    control_plane: ControlPlane, replicas: Replicas
) -> None:
    sent = [new_push(str(number)) for number in range(PUSHES)]
    with ThreadPoolExecutor(8) as pool:
        for pushed in sent:
            for pod in replicas.pods:
                pool.submit(send, pod, pushed)
                pool.submit(send, pod, pushed, anew=True)
    assert {status for pushed in sent for status in pushed.statuses} <= {200, 202}
    assert all(len(pushed.statuses) == 4 for pushed in sent)
    assert_one_run_each(replicas, control_plane.api, sent, seconds=20)
    with replicas.database.engine(WORK) as engine:
        results = Counter(row["result"] for row in rows(engine, deliveries))
    assert results == {"accepted": PUSHES, "duplicate": 3 * PUSHES}


def test_a_killed_worker_is_succeeded_by_the_other_within_its_lease(
    control_plane: ControlPlane, replicas: Replicas
) -> None:
    first, second = replicas.pods
    sent = [new_push(str(number)) for number in range(PUSHES)]
    with ThreadPoolExecutor(8) as pool:
        for number, pushed in enumerate(sent):
            pool.submit(send, replicas.pods[number % 2], pushed)
            if number == PUSHES // 2:
                wait_until(lambda: any(each.runs for each in sent), what="the first answer")
                first.kill("work")
    began = time.monotonic()
    assert_one_run_each(replicas, control_plane.api, sent, seconds=LEASE_SECONDS + 10)
    click.echo(f"all {PUSHES} runs {time.monotonic() - began:.1f} s after the last acknowledgement")
    assert second.processes["work"].poll() is None


def test_a_database_that_crashes_under_load_loses_nothing_and_comes_back_by_itself(
    control_plane: ControlPlane, server: PostgreSQL, replicas: Replicas
) -> None:
    sent = [new_push(str(number)) for number in range(PUSHES)]
    stop = threading.Event()
    back = threading.Event()

    def deliver(number: int) -> None:
        """As a person at GitHub does who sees a 503: redeliver, to whichever replica the Service chooses."""
        turn = number
        while not sent[number].acknowledged and not stop.is_set():
            send(replicas.pods[turn % 2], sent[number])
            turn += 1
            if not sent[number].acknowledged:
                back.wait(0.5)

    with ThreadPoolExecutor(8) as pool:
        delivering = [pool.submit(deliver, number) for number in range(PUSHES)]
        try:
            wait_until(lambda: sum(each.acknowledged for each in sent) > PUSHES // 8, what="some acknowledgements")
            server.stop(how=signal.SIGQUIT)
            wait_until(lambda: any(503 in each.statuses for each in sent), what="a refusal")
            # Each learns of it by the first push that it cannot store.
            wait_until(lambda: [replicas.ready(pod) for pod in replicas.pods] == [503, 503], what="both to be unready")
            time.sleep(AWAY_SECONDS)  # the outage itself
            server.start()
            back.set()
            began = time.monotonic()
            for each in delivering:
                each.result(30)
        finally:
            stop.set()
    acknowledged = time.monotonic() - began
    assert_one_run_each(replicas, control_plane.api, sent, seconds=15)
    everything = time.monotonic() - began
    slowest = max(seconds for each in sent for seconds in each.seconds)
    statuses = Counter(status for each in sent for status in each.statuses)
    click.echo(
        f"answers {dict(statuses)}, slowest {slowest:.2f} s; after the server was back: "
        f"all acknowledged in {acknowledged:.1f} s, all runs in {everything:.1f} s"
    )
    assert set(statuses) == {202, 503} or set(statuses) == {200, 202, 503}
    assert slowest < 5
    assert everything < 15
    wait_until(lambda: [replicas.ready(pod) for pod in replicas.pods] == [200, 200], what="both to be ready")
    assert all(process.poll() is None for pod in replicas.pods for process in pod.processes.values())


def test_a_push_wakes_a_worker_long_before_it_would_have_looked(replicas: Replicas) -> None:
    with replicas.database.engine(WORK) as engine:
        for number in range(40):
            assert send(replicas.pods[number % 2], new_push(f"latency {number}")) == 202
            wait_until(lambda: replicas.states(engine)["waiting"] == 0, what="the run")
        waits = [row["started_at"] - row["created_at"] for row in rows(engine, jobs)]
    deciles = statistics.quantiles(waits, n=10)
    click.echo(f"push -> run: p50 {statistics.median(waits) * 1e3:.0f} ms, p90 {deciles[8] * 1e3:.0f} ms")
    # Looking each second alone would take half a second in the middle.
    assert statistics.median(waits) < 0.2
