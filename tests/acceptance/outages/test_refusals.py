"""What the API server refuses: it is told at once and lives again when it is mended, or it is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.outages.checks import assert_acknowledged, assert_one_run_each, pushes, wait_created
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.support.kubeconfigs import bind_worker_account, unbind_worker_account
from tests.support.load import Pushed, names_of, send_all
from tests.support.pipelines import refused_template
from tests.support.planes import Planes
from tests.support.quotas import limit_runs
from tests.support.seen import job_rows, metrics, run_names, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]


def assert_dead_at_once(planes: Planes, sent: list[Pushed], words: str) -> None:
    """All jobs are dead within a second, and log, metric and command line say why, in the API server's own words."""
    assert_acknowledged(sent)
    wait_until(lambda: states(planes)["dead"] == len(sent), what="all jobs to be dead")
    for job in job_rows(planes):
        assert words in job["message"]
        assert job["finished_at"] - job["created_at"] < 1.0
    assert metrics(planes.private_port)['receiver_jobs{state="dead"}'] == len(sent)
    said = words.replace('"', '\\"')
    wait_until(lambda: said in planes.log("work").replace('\\\\"', '\\"'), what="the API server's words in the log")
    shown = planes.command("deliveries", "show", sent[0].guid).stdout
    assert "dead: refused" in shown
    assert words in shown


def assert_revived(planes: Planes, api: Api, namespace: str, sent: list[Pushed]) -> None:
    """After the fix, one command gives all of them another life."""
    assert planes.command("deliveries", "retry", "--dead").stdout == f"{len(sent)} dead jobs waiting again\n"
    wait_created(planes, sent, seconds=15)
    assert_one_run_each(planes, api, namespace, sent)


def test_a_right_that_is_missing_is_told_at_once(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    planes.start()
    unbind_worker_account(control_plane.api, run_namespace)
    sent = pushes(3)
    send_all(planes, sent)
    assert_dead_at_once(planes, sent, "pipelineruns.tekton.dev is forbidden: User")
    bind_worker_account(control_plane.api, run_namespace)
    assert_revived(planes, control_plane.api, run_namespace, sent)


def test_a_template_that_the_schema_refuses_is_told_at_once(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    with refused_template(planes):
        planes.start()
        sent = pushes(3)
        send_all(planes, sent)
        assert_dead_at_once(planes, sent, 'unknown field "spec.nonsense"')
    planes.kill("work")
    planes.start("work")
    assert_revived(planes, control_plane.api, run_namespace, sent)


def test_a_namespace_that_does_not_exist_is_told_at_once(control_plane: ControlPlane, tmp_path: Path) -> None:
    namespace = f"late-{tmp_path.parent.name.rpartition('-')[2]}"
    planes = Planes.prepare(tmp_path / "receiver", kubeconfig=control_plane.kubeconfig, namespace=namespace)
    try:
        planes.start()
        sent = pushes(3)
        send_all(planes, sent)
        assert_dead_at_once(planes, sent, f'namespaces "{namespace}" not found')
        make_namespace(control_plane.api, namespace)
        assert_revived(planes, control_plane.api, namespace, sent)
    finally:
        planes.stop()
    control_plane.api.delete("v1", "Namespace", namespace)


def test_a_full_quota_is_waited_for(control_plane: ControlPlane, run_namespace: str, planes: Planes) -> None:
    limit_runs(control_plane.api, run_namespace, 1)
    planes.start()
    sent = pushes(3)
    send_all(planes, sent)
    wait_until(lambda: sum(job["attempts"] > 0 for job in job_rows(planes)) == 2, what="two jobs to wait")
    wait_until(lambda: "exceeded quota" in planes.log("work"), what="the reason in the log")
    assert len(run_names(control_plane.api, run_namespace)) == 1
    assert states(planes)["dead"] == 0
    control_plane.api.delete("v1", "ResourceQuota", "runs", namespace=run_namespace)
    wait_created(planes, sent, seconds=30)
    assert run_names(control_plane.api, run_namespace) == names_of(sent)
