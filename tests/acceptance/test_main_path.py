"""Real processes, a real API server with Tekton: from the socket to the outcome."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from tests.controlplane import pods
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes, delivery_headers
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
V1 = "tekton.dev/v1"


def runs(api: Api, namespace: str) -> list[dict[str, Any]]:
    return api.list(V1, "PipelineRun", namespace=namespace)


def jobs(planes: Planes) -> list[dict[str, Any]]:
    return [job for delivery in planes.deliveries() for job in delivery["jobs"]]


def only_job(planes: Planes, state: str) -> dict[str, Any] | None:
    (job,) = jobs(planes)
    return job if job["state"] == state else None


@pytest.mark.parametrize(("failing", "result"), [(None, "succeeded"), ("test-backend", "failed")])
def test_a_push_becomes_a_run_whose_outcome_is_listed(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, failing: str | None, result: str
) -> None:
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    planes.start()
    payload = seeded_push(branch="feature/Größe")
    delivery = new_guid()
    answer = planes.push(encoded(payload), delivery)
    assert (answer.status_code, answer.json()["result"]) == (202, "accepted")
    name = answer.json()["runs"][0]["run"]
    wait_until(lambda: only_job(planes, "started"), what="the run to be recorded")
    (run,) = runs(control_plane.api, run_namespace)
    assert run["metadata"]["name"] == name
    assert {param["name"]: param["value"] for param in run["spec"]["params"]}["revision"] == payload["after"]
    assert run["metadata"]["annotations"]["striv-receiver.dev/ref"] == "refs/heads/feature/Größe"
    pods.finish_run(control_plane.api, run_namespace, name, failing_task=failing)
    job = wait_until(lambda: only_job(planes, "finished"), what="the outcome", seconds=10)
    assert job["result"] == result
    assert (job["failed_task"] or "").startswith(failing or "")


def test_a_redelivery_starts_nothing_and_names_the_same_run(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    planes.start()
    payload, delivery = encoded(seeded_push()), new_guid()
    first = planes.push(payload, delivery)
    again = [planes.push(payload, delivery), planes.push(payload, new_guid())]
    assert {answer.json()["result"] for answer in again} == {"duplicate"}
    assert {answer.json()["runs"][0]["run"] for answer in [first, *again]} == {first.json()["runs"][0]["run"]}
    wait_until(lambda: all(job["state"] != "waiting" for job in jobs(planes)), what="the job to be worked on")
    assert len(runs(control_plane.api, run_namespace)) == 1


def test_a_kill_between_acknowledgement_and_creation_loses_nothing(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    planes.start("serve")
    answers = [planes.push(encoded(seeded_push(str(number))), new_guid()) for number in range(20)]
    assert {answer.status_code for answer in answers} == {202}
    planes.kill("serve")
    planes.start("work")
    names = {answer.json()["runs"][0]["run"] for answer in answers}
    wait_until(
        lambda: {run["metadata"]["name"] for run in runs(control_plane.api, run_namespace)} == names, what="20 runs"
    )


def test_a_killed_worker_is_succeeded_by_the_next_without_a_second_run(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    planes.start()
    answers = [planes.push(encoded(seeded_push(str(number))), new_guid()) for number in range(30)]
    planes.kill("work")
    planes.start("work")
    names = {answer.json()["runs"][0]["run"] for answer in answers}
    wait_until(lambda: all(job["state"] != "waiting" for job in jobs(planes)), what="all jobs", seconds=40)
    assert {run["metadata"]["name"] for run in runs(control_plane.api, run_namespace)} == names


def test_sigterm_finishes_what_was_begun_and_ends_with_exit_code_0(planes: Planes) -> None:
    planes.start()
    with half_sent(planes, encoded(seeded_push())) as (connection, rest):
        for plane in ("serve", "work"):
            planes.signal(plane, signal.SIGTERM)
        wait_until(lambda: refuses(planes), what="the listener to close")
        connection.sendall(rest)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 202 ")
    assert {plane: process.wait(10) for plane, process in planes.processes.items()} == {"serve": 0, "work": 0}
    planes.processes.clear()
    assert len(planes.deliveries()) == 1


def test_a_second_sigterm_ends_serve_at_once(planes: Planes) -> None:
    planes.start("serve")
    with half_sent(planes, encoded(seeded_push())):
        planes.signal("serve", signal.SIGTERM)
        wait_until(lambda: refuses(planes), what="the listener to close")
        assert planes.processes["serve"].poll() is None
        planes.signal("serve", signal.SIGTERM)
        assert planes.processes.pop("serve").wait(2) == 1


@contextmanager
def half_sent(planes: Planes, payload: bytes) -> Iterator[tuple[socket.socket, bytes]]:
    """A delivery of which the second half of the body has not been sent yet."""
    lines = [f"{name}: {value}" for name, value in delivery_headers(payload, new_guid()).items()]
    head = "\r\n".join(["POST /webhook HTTP/1.1", "Host: test", f"Content-Length: {len(payload)}", *lines, "", ""])
    middle = len(payload) // 2
    with socket.create_connection(("127.0.0.1", planes.port), timeout=10) as connection:
        connection.sendall(head.encode() + payload[:middle])
        # Answered later than the half was sent, so the server has taken that up.
        requests.get(f"http://127.0.0.1:{planes.port}/healthz", timeout=10)
        yield connection, payload[middle:]


def refuses(planes: Planes) -> bool:
    """Whether the public plane takes no new connections."""
    try:
        socket.create_connection(("127.0.0.1", planes.port), timeout=1).close()
    except OSError:
        return True
    return False


def test_a_forged_delivery_is_refused_and_leaves_no_trace(planes: Planes) -> None:
    planes.start("serve")
    payload = encoded(seeded_push())
    headers = {"X-Hub-Signature-256": "sha256=" + "0" * 64, "X-GitHub-Event": "push", "X-GitHub-Delivery": new_guid()}
    answer = requests.post(planes.url, data=payload, headers=headers, timeout=10)
    assert answer.status_code == 401
    assert planes.deliveries() == []


def test_what_no_trigger_wants_is_answered_200_with_the_reason(planes: Planes) -> None:
    planes.start("serve")
    answer = planes.push(encoded(seeded_push(branch="gh-readonly-queue/main/pr-1")), new_guid())
    assert (answer.status_code, answer.json()["reason"]) == (200, "branch-filtered")
