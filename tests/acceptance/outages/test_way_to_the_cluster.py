"""The API server slow, cut off or silent: no run is lost or made twice, and no outcome missed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import click
import pytest

from tests.acceptance.outages.checks import (
    assert_acknowledged,
    assert_one_run_each,
    pushes,
    sent_and_started,
    wait_created,
)
from tests.controlplane import pods
from tests.controlplane.cluster import ControlPlane
from tests.support.load import names_of, new_push, send_all
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.proxy import Proxy, Toxic
from tests.support.seen import job_rows, metrics, run_names, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]


def test_a_slow_api_server_delays_no_acknowledgement(
    control_plane: ControlPlane, run_namespace: str, proxy: Proxy, kubeconfig: Path, tmp_path: Path
) -> None:
    planes = Planes.prepare(tmp_path / "slow", kubeconfig=kubeconfig, namespace=run_namespace)
    try:
        planes.start()
        proxy.poison(Toxic(latency_seconds=5.0))
        sent = pushes(10)
        send_all(planes, sent)
        assert_acknowledged(sent)
        wait_created(planes, sent, seconds=30)
        assert_one_run_each(planes, control_plane.api, run_namespace, sent)
    finally:
        planes.stop()


@pytest.mark.parametrize("fault", ["replies lost", "half open", "refused"])
def test_a_broken_way_to_the_api_server_costs_no_run_and_makes_none_twice(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy, fault: str
) -> None:
    planes.start()
    first = sent_and_started(planes, 1)
    if fault == "refused":
        proxy.down()
    else:
        proxy.poison(Toxic(loses_replies=fault == "replies lost", swallows=fault == "half open"))
    sent = [new_push(f"meanwhile {number}") for number in range(40)]
    send_all(planes, sent)
    assert_acknowledged(sent)
    wait_until(lambda: metrics(planes.private_port)["receiver_cluster_up"] == 0, what="the worker to notice")
    wait_until(lambda: any(job["message"] for job in job_rows(planes)), what="a job to be given back")
    if fault == "replies lost":
        wait_until(lambda: len(run_names(control_plane.api, run_namespace)) > 1, what="a run that nobody was told of")
    if fault == "refused":
        proxy.up()
    else:
        proxy.heal()
    healed_at = time.monotonic()
    wait_created(planes, first + sent, seconds=30)
    click.echo(f"{fault}: drained {time.monotonic() - healed_at:.2f} s after the end")
    assert_one_run_each(planes, control_plane.api, run_namespace, first + sent)


def test_sigterm_ends_the_worker_in_time_though_the_api_server_owes_an_answer(
    control_plane: ControlPlane, run_namespace: str, proxy: Proxy, kubeconfig: Path, tmp_path: Path
) -> None:
    planes = Planes.prepare(tmp_path / "patient", kubeconfig=kubeconfig, namespace=run_namespace)
    try:
        planes.start()
        proxy.poison(Toxic(swallows=True))
        sent = pushes(20)
        send_all(planes, sent)
        wait_until(lambda: any(job["lease"] for job in job_rows(planes)), what="a job to be claimed")
        asked_at = time.monotonic()
        planes.signal("work", signal.SIGTERM)
        assert planes.processes.pop("work").wait(20) == 0
        assert time.monotonic() - asked_at < 10
        proxy.heal()
        planes.start("work")
        # No lease has to run out first: they were given back.
        wait_created(planes, sent, seconds=9)
        assert_one_run_each(planes, control_plane.api, run_namespace, sent)
    finally:
        planes.stop()


def test_an_outcome_is_seen_within_a_minute_though_all_connections_have_died_without_a_word(
    control_plane: ControlPlane, run_namespace: str, proxy: Proxy, kubeconfig: Path, tmp_path: Path
) -> None:
    """As when a firewall or the network forgets them: with the settings as they are deployed."""
    make_pipeline(control_plane.api, run_namespace)
    planes = Planes.prepare(tmp_path / "forgotten", kubeconfig=kubeconfig, namespace=run_namespace)
    simplify(planes)
    try:
        planes.start()
        sent = sent_and_started(planes, 1)
        proxy.forget()
        (name,) = names_of(sent)
        pods.finish_run(control_plane.api, run_namespace, name, seconds=120)
        ended_at = time.monotonic()
        wait_until(lambda: states(planes)["finished"], what="the outcome", seconds=90)
        click.echo(f"outcome {time.monotonic() - ended_at:.2f} s after the end of the run")
        assert time.monotonic() - ended_at < 60
    finally:
        proxy.reset()
        planes.stop()
