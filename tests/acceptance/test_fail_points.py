"""Death at each boundary between two steps: one run, nothing lost, and acknowledged only what was stored."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.support.fail_points import (
    CORRECTED,
    EXIT_CODE,
    FOUND,
    POSTPONED,
    PRUNED,
    REFUSED,
    RENEWED,
    REVIVED,
    SALTED,
    SERVE,
    STOPPING,
    WORK,
    through,
)
from tests.support.journals import opened, run_sql
from tests.support.load import STORED, Pushed, names_of, new_push, send, send_all
from tests.support.pipelines import refused_template
from tests.support.planes import Planes
from tests.support.quotas import limit_runs
from tests.support.seen import KEY, integrity, job_rows, runs, steps
from tests.support.signing import new_guid
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
PUSHES = 6
MORE_THAN_ARE_CREATED_AT_ONCE = 60


@pytest.fixture(scope="module")
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """One namespace for all points: each has pushes of its own."""
    name = f"test-{secrets.token_hex(4)}"
    make_namespace(control_plane.api, name)
    yield name
    control_plane.api.delete("v1", "Namespace", name)


@pytest.fixture(scope="module")
def receiver(control_plane: ControlPlane, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planes]:
    """One receiver for all points; what a dead worker held is free again after a second."""
    planes = Planes.prepare(
        tmp_path_factory.mktemp("fail-points") / "receiver",
        kubeconfig=control_plane.kubeconfig,
        namespace=namespace,
        changes={"work": {"lease_seconds": 1, "relist_seconds": 1}},
    )
    planes.start("serve")
    yield planes
    planes.stop()


@pytest.fixture
def planes(receiver: Planes) -> Iterator[Planes]:
    """The public plane runs; the worker is the test's."""
    if "serve" not in receiver.processes:
        receiver.start("serve")
    yield receiver
    if "work" in receiver.processes:
        receiver.kill("work")


def wait_death(planes: Planes, plane: str) -> None:
    """Wait until a plane has reached its fail point."""
    code = planes.processes.pop(plane).wait(60)
    assert code == EXIT_CODE, planes.log(plane)[-3000:]


def die_and_go_on(planes: Planes, *points: str) -> None:
    """Let one worker after another die at these points; then one lives."""
    for point in points:
        planes.launch("work", through=through(point))
        wait_death(planes, "work")
    planes.start("work")


def pushed_to(planes: Planes, number: int = PUSHES) -> list[Pushed]:
    """Pushes that the public plane has acknowledged."""
    pushes = [new_push(new_guid()) for _ in range(number)]
    send_all(planes, pushes)
    assert [pushed.statuses for pushed in pushes] == [[202]] * number
    return pushes


def jobs_of(planes: Planes, pushes: list[Pushed]) -> list[dict[str, Any]]:
    return [job for job in job_rows(planes) if job["run_name"] in names_of(pushes)]


def all_are(planes: Planes, pushes: list[Pushed], *wanted: str) -> bool:
    return all(job["state"] in wanted for job in jobs_of(planes, pushes))


def assert_one_run_each(
    planes: Planes, api: Api, namespace: str, pushes: list[Pushed], *, renamed: bool = False
) -> None:
    """Wait for all runs, then compare runs, journal and answers; `renamed` where others have the names that were foretold."""
    keys = {job["job_key"].hex() for job in jobs_of(planes, pushes)}
    wait_until(lambda: keys_are(planes, keys, "started", "finished"), what="all jobs to start", seconds=60, every=0.1)
    found = [run for run in runs(api, namespace) if run["metadata"]["annotations"].get(KEY) in keys]
    assert len(found) == len(keys) == len(pushes)
    names = {run["metadata"]["name"] for run in found}
    assert not names & names_of(pushes) if renamed else names == names_of(pushes)
    assert {count for (key, _, _), count in steps(planes).items() if key.hex() in keys} == {1}
    assert integrity(planes) == "ok"


def keys_are(planes: Planes, keys: set[str], *wanted: str) -> bool:
    return all(job["state"] in wanted for job in job_rows(planes) if job["job_key"].hex() in keys)


@pytest.mark.parametrize("point", SERVE)
def test_a_death_on_the_way_to_the_acknowledgement_loses_nothing_that_was_acknowledged(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    planes.kill("serve")
    before = len(job_rows(planes))
    planes.launch("serve", through=through(point, count=3))
    planes.wait_ready("serve")
    pushes = [new_push(new_guid()) for _ in range(3)]
    *first, last = [send(planes, pushed) for pushed in pushes]
    assert first == [202, 202]
    # An answer that was handed over can be lost with the process, or not.
    assert last in ((202, 0) if "answered" in point else (0,))
    wait_death(planes, "serve")
    assert len(job_rows(planes)) - before == (3 if point.startswith("committed") else 2)
    planes.start()
    # The redelivery is told of the same run, whether or not the first delivery came as far as the journal.
    assert [send(planes, pushed) in STORED for pushed in pushes] == [True] * 3
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", WORK)
def test_a_death_of_the_worker_between_two_steps_makes_neither_two_runs_nor_none(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    pushes = pushed_to(planes)
    die_and_go_on(planes, point)
    assert_one_run_each(planes, control_plane.api, namespace, pushes)
    wait_until(lambda: all_are(planes, pushes, "finished"), what="all outcomes", every=0.1)


@pytest.mark.parametrize("point", REFUSED)
def test_a_death_while_a_refusal_is_recorded_leaves_it_to_the_next_worker(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    with refused_template(planes):
        pushes = pushed_to(planes)
        die_and_go_on(planes, point)
        wait_until(lambda: all_are(planes, pushes, "dead"), what="all jobs to be dead", every=0.1)
    planes.kill("work")
    assert planes.command("deliveries", "retry", "--dead").stdout == f"{PUSHES} dead jobs waiting again\n"
    planes.start("work")
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", POSTPONED)
def test_a_death_while_a_postponement_is_recorded_makes_one_run_when_there_is_room(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    limit_runs(control_plane.api, namespace, 0)
    pushes = pushed_to(planes)
    planes.launch("work", through=through(point))
    wait_death(planes, "work")
    control_plane.api.delete("v1", "ResourceQuota", "runs", namespace=namespace)
    planes.start("work")
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", STOPPING)
def test_a_death_after_sigterm_leaves_nothing_behind_that_the_next_worker_does_not_finish(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    pushes = pushed_to(planes, MORE_THAN_ARE_CREATED_AT_ONCE)
    planes.launch("work", through=through(point))
    wait_until(lambda: not all_are(planes, pushes, "waiting"), what="the first run", every=0.01)
    planes.signal("work", signal.SIGTERM)
    wait_death(planes, "work")
    planes.start("work")
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", FOUND)
def test_a_second_death_while_the_run_of_the_first_is_found_makes_no_other_run(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    pushes = pushed_to(planes)
    die_and_go_on(planes, "created, before the record", point)
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", REVIVED)
def test_a_death_while_the_redelivered_are_revived_revives_them_none_the_less_and_once(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    with refused_template(planes):
        pushes = pushed_to(planes)
        planes.start("work")
        wait_until(lambda: all_are(planes, pushes, "dead"), what="all jobs to be dead", every=0.1)
    planes.kill("work")
    assert [send(planes, pushed) in STORED for pushed in pushes] == [True] * PUSHES
    die_and_go_on(planes, point)
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", SALTED)
def test_a_death_while_another_name_is_chosen_makes_one_run_under_it(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    pushes = pushed_to(planes)
    for name in names_of(pushes):
        control_plane.api.create(
            {
                "apiVersion": "tekton.dev/v1",
                "kind": "PipelineRun",
                "metadata": {"name": name, "namespace": namespace, "annotations": {"foreign": "yes"}},
                "spec": {"pipelineRef": {"name": "none"}},
            }
        )
    die_and_go_on(planes, point)
    assert_one_run_each(planes, control_plane.api, namespace, pushes, renamed=True)


@pytest.mark.parametrize("point", RENEWED)
def test_a_death_while_leases_are_renewed_leaves_the_jobs_to_the_next_worker(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    pushes = pushed_to(planes, MORE_THAN_ARE_CREATED_AT_ONCE)
    die_and_go_on(planes, point)
    assert_one_run_each(planes, control_plane.api, namespace, pushes)


@pytest.mark.parametrize("point", CORRECTED)
def test_a_death_while_an_outcome_is_set_right_leaves_that_to_the_next_worker(planes: Planes, point: str) -> None:
    pushes = pushed_to(planes, 1)
    planes.start("work")
    wait_until(lambda: all_are(planes, pushes, "finished"), what="the outcome", seconds=60, every=0.1)
    planes.kill("work")
    (job,) = jobs_of(planes, pushes)
    assert job["result"] == "failed"
    with opened(planes.folder, migrated=False) as engine:
        run_sql(engine, f"UPDATE jobs SET result = 'succeeded' WHERE id = {job['id']}")  # noqa: S608 - our own
    die_and_go_on(planes, point)
    wait_until(lambda: jobs_of(planes, pushes)[0]["result"] == "failed", what="the truth", seconds=60, every=0.1)
    (again,) = jobs_of(planes, pushes)
    assert (again["run_uid"], again["message"]) == (job["run_uid"], job["message"])
    assert integrity(planes) == "ok"


@pytest.mark.parametrize("point", PRUNED)
def test_a_death_while_the_journal_is_pruned_forgets_no_key_so_that_nothing_runs_again(
    control_plane: ControlPlane, namespace: str, planes: Planes, point: str
) -> None:
    pushes = pushed_to(planes)
    planes.start("work")
    wait_until(lambda: all_are(planes, pushes, "finished"), what="all outcomes", seconds=60, every=0.1)
    planes.kill("work")
    at_once = {"RECEIVER__JOURNAL__KEEP_COUNT": "1", "RECEIVER__WORK__PRUNE_SECONDS": "1"}
    planes.launch("work", environment=at_once, through=through(point))
    wait_death(planes, "work")
    assert integrity(planes) == "ok"
    planes.start("work", environment=at_once)
    # The newest delivery is kept, and what it speaks of.
    wait_until(lambda: len(jobs_of(planes, pushes)) <= 1, what="the others to be forgotten", every=0.1)
    planes.kill("work")
    names = names_of(pushes)
    assert [send(planes, pushed) in STORED for pushed in pushes] == [True] * PUSHES
    waiting = [job for job in job_rows(planes) if job["state"] == "waiting"]
    assert waiting == []
    assert {run["metadata"]["name"] for run in runs(control_plane.api, namespace)} >= names
    assert integrity(planes) == "ok"
