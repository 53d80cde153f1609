"""`receiver work` as a process, against an API server at the wire that a test holds up: leases, bounds, patience, the end."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import NAMESPACE, ApiServer, Fault, api_server
from tests.support.journals import opened
from tests.support.load import new_push, send_all
from tests.support.planes import Planes, free_port
from tests.support.seen import job_rows, states
from tests.support.waiting import wait_until

CONCURRENCY = 3
LEASE_SECONDS = 1.0


class HeldServer(ApiServer):
    """An API server that keeps every creation until it is let go, and counts how many it has in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.inside = self.most_inside = self.asked = 0
        self._counting = threading.Lock()

    def post(self, run: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._counting:
            self.asked += 1
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.go.wait(30)
        with self._counting:
            self.inside -= 1
            return super().post(run)


@pytest.fixture
def server() -> Iterator[HeldServer]:
    with api_server(HeldServer()) as server:
        assert isinstance(server, HeldServer)
        yield server
        server.go.set()


@pytest.fixture
def planes(server: HeldServer, tmp_path: Path) -> Iterator[Planes]:
    prepared = Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=server.kubeconfig(tmp_path),
        namespace=NAMESPACE,
        changes={"work": {"concurrency": CONCURRENCY, "lease_seconds": LEASE_SECONDS}},
    )
    yield prepared
    for process in prepared.processes.values():
        process.kill()
        process.wait(10)


def push(planes: Planes, number: int) -> None:
    pushes = [new_push(str(each), branch=f"branch-{each}") for each in range(number)]
    send_all(planes, pushes)
    assert {tuple(pushed.statuses) for pushed in pushes} == {(202,)}


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_creation_that_takes_longer_than_the_lease_is_taken_over_by_nobody(
    planes: Planes, server: HeldServer
) -> None:
    planes.start()
    push(planes, 1)
    wait_until(lambda: server.inside, what="the creation")
    planes.processes["first"] = planes.processes.pop("work")
    planes.private_port = free_port()
    planes.start("work", environment={"RECEIVER__WORK__LISTEN": f"127.0.0.1:{planes.private_port}"})
    first_end = job_rows(planes)[0]["lease_until"]
    wait_until(
        lambda: time.time() > first_end + 2 * LEASE_SECONDS and job_rows(planes)[0]["lease_until"] > time.time(),
        what="the lease to be prolonged for as long as the creation lasts",
        seconds=15,
    )
    assert (job_rows(planes)[0]["lease"], server.asked) == (1, 1)
    server.go.set()
    wait_until(lambda: states(planes) == {"started": 1}, what="the run")
    assert (job_rows(planes)[0]["lease"], server.asked) == (1, 1)


def test_no_more_are_created_at_once_than_was_configured_not_even_after_an_outage(
    planes: Planes, server: HeldServer
) -> None:
    planes.start("serve")
    push(planes, 40)
    server.faults.extend([Fault(503, "away")] * 5)
    planes.start("work")
    wait_until(lambda: server.inside == 1, what="the first that asks after the outage", seconds=20)
    server.faults.clear()
    server.go.set()
    wait_until(lambda: states(planes) == {"started": 40}, what="all runs", seconds=20)
    assert server.most_inside <= CONCURRENCY
    server.go.clear()
    push_more = [new_push(f"more {each}") for each in range(20)]
    send_all(planes, push_more)
    wait_until(lambda: server.inside == CONCURRENCY, what="as many as may be created at once")
    server.go.set()
    wait_until(lambda: states(planes) == {"started": 60}, what="all runs", seconds=20)
    assert server.most_inside == CONCURRENCY


@pytest.mark.parametrize(("days", "state"), [(3.0, "waiting"), (1e-6, "dead")])
def test_a_job_is_given_up_after_the_configured_time_and_not_before(
    planes: Planes, server: HeldServer, days: float, state: str
) -> None:
    planes.start("serve")
    push(planes, 1)
    server.faults.extend([Fault(429, "slow down")] * 1_000)
    planes.start("work", environment={"RECEIVER__WORK__GIVE_UP_DAYS": str(days)})
    wait_until(lambda: len(server.faults) <= 1_000 - 2, what="two attempts", seconds=20)
    wait_until(lambda: job_rows(planes)[0]["attempts"] >= 2 or states(planes)["dead"], what="their record")
    assert states(planes) == {state: 1}


def test_sigterm_ends_the_worker_in_time_though_neither_journal_nor_api_server_answers(
    planes: Planes, server: HeldServer
) -> None:
    planes.start()
    push(planes, 10)
    wait_until(lambda: server.inside == CONCURRENCY, what="the creations")
    with opened(planes.folder, migrated=False) as engine, engine.begin():
        # Here the file is locked.
        asked_at = time.monotonic()
        planes.signal("work", signal.SIGTERM)
        assert planes.processes.pop("work").wait(20) == 0, planes.log("work")[-3_000:]
        assert time.monotonic() - asked_at < 10
    assert "Traceback" not in planes.log("work")
    server.go.set()
    planes.start("work")
    wait_until(lambda: states(planes) == {"started": 10}, what="all runs", seconds=20)
    assert len(server.made) == 10


@pytest.mark.parametrize("command", ["work", "run"])
def test_a_second_sigterm_ends_it_at_once(planes: Planes, server: HeldServer, command: str) -> None:
    planes.start("serve")
    push(planes, 10)
    if command == "run":
        assert planes.stop() == {"serve": 0}
    planes.launch(command)
    wait_until(lambda: server.inside == CONCURRENCY, what="the creations", seconds=20)
    process = planes.processes[command]
    asked_at = time.monotonic()
    planes.signal(command, signal.SIGTERM)

    def has_ended() -> bool:
        # Signals that come before the first was heeded are one with it.
        planes.signal(command, signal.SIGTERM)
        return process.poll() is not None

    wait_until(has_ended, what="the end")
    assert time.monotonic() - asked_at < 4
    # Where yet another came while Python was ending, nobody heeded it any more.
    assert process.returncode in (1, -signal.SIGTERM)
    wait_until(lambda: not is_listening(planes.private_port), what="the worker to be gone", seconds=2)
