"""Credentials that fail: what waits for new ones is done as soon as they are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.outages.checks import assert_acknowledged, assert_one_run_each, sent_and_started, wait_created
from tests.controlplane import pods
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.pki import make_pki
from tests.support.kubeconfigs import write_kubeconfig
from tests.support.load import names_of, new_push, send_all
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.proxy import Proxy
from tests.support.seen import metrics, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]


@pytest.mark.parametrize("what", ["token", "certificate"])
def test_credentials_that_fail_and_are_renewed_cost_neither_a_run_nor_an_outcome(
    control_plane: ControlPlane,
    run_namespace: str,
    planes: Planes,
    proxy: Proxy,
    kubeconfig: Path,
    token: str,
    tmp_path: Path,
    what: str,
) -> None:
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    planes.start()
    first = sent_and_started(planes, 1)
    port = proxy.port
    if what == "token":
        write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=port, token="revoked")
    else:
        other = make_pki(tmp_path / "other-pki").ca
        write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=port, token=token, ca_file=other)
    planes.kill("work")
    planes.start("work")
    sent = [new_push(f"meanwhile {number}") for number in range(20)]
    send_all(planes, sent)
    assert_acknowledged(sent)
    wait_until(lambda: metrics(planes.private_port)["receiver_cluster_up"] == 0, what="the worker to notice")
    assert states(planes) == {"started": 1, "waiting": 20}
    write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=port, token=token)
    wait_created(planes, first + sent, seconds=15)
    assert_one_run_each(planes, control_plane.api, run_namespace, first + sent)
    (name,) = names_of(first)
    pods.finish_run(control_plane.api, run_namespace, name)
    wait_until(lambda: states(planes)["finished"] == 1, what="the outcome", seconds=10)


def test_a_token_that_is_renewed_while_nothing_is_pushed_is_used_for_outcomes(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy, kubeconfig: Path, token: str
) -> None:
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    planes.start()
    sent = sent_and_started(planes, 1)
    planes.kill("work")
    write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=proxy.port, token="revoked")
    planes.start("work")
    wait_until(lambda: "watch interrupted" in planes.log("work"), what="the worker to notice")
    write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=proxy.port, token=token)
    (name,) = names_of(sent)
    pods.finish_run(control_plane.api, run_namespace, name)
    wait_until(lambda: states(planes)["finished"] == 1, what="the outcome", seconds=10)
