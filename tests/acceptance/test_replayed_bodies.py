"""One push, delivered in every way there is: the runs on the real API server are counted, not what the journal says of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from receiver.journal import schema
from tests.controlplane.cluster import ControlPlane
from tests.support.journals import count, opened
from tests.support.load import Pushed, new_push, send, send_all
from tests.support.planes import Planes, delivery_headers
from tests.support.seen import job_rows, run_names, states
from tests.support.signing import new_guid
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
AT_ONCE = 1e-6  # days


@pytest.fixture
def planes(control_plane: ControlPlane, run_namespace: str, tmp_path: Path) -> Iterator[Planes]:
    """A receiver that forgets what is done as soon as it can, and keeps what guards against replays."""
    prepared = Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=control_plane.kubeconfig,
        namespace=run_namespace,
        changes={"journal": {"keep_days": AT_ONCE}, "work": {"prune_seconds": 0.2}},
    )
    prepared.start()
    yield prepared
    prepared.stop()


def deliver(planes: Planes, pushed: Pushed, guid: str, hook_id: int) -> requests.Response:
    headers = delivery_headers(pushed.body, guid) | {"X-GitHub-Hook-ID": str(hook_id)}
    return requests.post(planes.url, data=pushed.body, headers=headers, timeout=10)


def all_worked_off(control_plane: ControlPlane, planes: Planes, namespace: str, seed: str) -> set[str]:
    """Push something else; when that runs, whatever was pushed before it would run as well. Return the other runs' names."""
    marker = new_push(seed)
    assert send(planes, marker) == 202
    wait_until(lambda: run_names(control_plane.api, namespace) >= marker.runs, what="the last run", seconds=30)
    wait_until(lambda: states(planes)["waiting"] == 0, what="all jobs to be worked on", seconds=30)
    return run_names(control_plane.api, namespace) - marker.runs


def test_ten_redeliveries_at_once_and_a_second_hook_make_one_run(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    pushed = new_push("once")
    same = [(pushed.guid, 1)] * 10
    hooks = [(pushed.guid, 2), (new_guid(), 2), (new_guid(), 3)]
    with ThreadPoolExecutor(13) as pool:
        answers = list(pool.map(lambda each: deliver(planes, pushed, *each), same + hooks))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert [answer.json()["result"] for answer in answers].count("accepted") == 1
    (name,) = {run["run"] for answer in answers for run in answer.json()["runs"]}
    assert all_worked_off(control_plane, planes, run_namespace, "marker") == {name}


def test_a_captured_body_starts_nothing_when_the_journal_was_pruned_and_the_run_deleted(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    captured = [new_push(f"captured {number}") for number in range(3)]
    send_all(planes, captured)
    names = {name for pushed in captured for name in pushed.runs}
    wait_until(lambda: run_names(control_plane.api, run_namespace) == names, what="the runs", seconds=30)
    wait_until(lambda: job_rows(planes) == [], what="the journal to forget them", seconds=60)
    with opened(planes.folder, migrated=False) as engine:
        assert [count(engine, table) for table in (schema.pushes, schema.transitions)] == [0, 0]
    for name in names:
        control_plane.api.delete("tekton.dev/v1", "PipelineRun", name, namespace=run_namespace)
    wait_until(lambda: run_names(control_plane.api, run_namespace) == set(), what="the runs to be gone", seconds=30)
    again = [(pushed, guid) for pushed in captured for guid in (pushed.guid, new_guid(), new_guid())]
    answers = [deliver(planes, pushed, guid, 9) for pushed, guid in again]
    assert {(answer.status_code, answer.json()["result"]) for answer in answers} == {(200, "duplicate")}
    assert all_worked_off(control_plane, planes, run_namespace, "marker") == set()
