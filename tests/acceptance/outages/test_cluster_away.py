"""The cluster away: nothing acknowledged is lost, nothing doubled, and nobody at GitHub notices.

STRIV_FULL=1 makes the outages as long as the requirements have them.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Self

import click
import pytest
import requests

from tests.acceptance.outages.checks import (
    assert_acknowledged,
    assert_one_run_each,
    pushes,
    sent_and_started,
    wait_created,
)
from tests.controlplane import pods
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.support.load import names_of, send, send_all
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.proxy import Proxy
from tests.support.seen import job_rows, metrics, run_names, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
FULL = os.environ.get("STRIV_FULL") == "1"
AWAY_SECONDS = 60.0 if FULL else 8.0
DRAINED_SECONDS = 5.0 if FULL else 30.0
PUSHES = 300
CONCURRENCY = 16
OTHER_REQUESTS = 4
"""A watch, two lists, and a question for a failed task."""


class Return:
    """Notes when a component takes requests again, from its restart on: long before it calls itself ready."""

    def __init__(self, control_plane: ControlPlane, component: str, namespace: str) -> None:
        self._control_plane = control_plane
        self._component = component
        self._namespace = namespace
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.at = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._answers() and not self._stopping.wait(0.02):
            pass
        self.at = time.time()

    def _answers(self) -> bool:
        if self._component == "kube-apiserver":
            url = f"{self._control_plane.server}/apis/tekton.dev/v1/namespaces/{self._namespace}/pipelineruns?limit=1"
            headers = {"Authorization": f"Bearer {self._control_plane.token}"}
            try:
                return requests.get(url, headers=headers, verify=str(self._control_plane.pki.ca), timeout=2).ok
            except requests.RequestException:
                return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._control_plane.ports[self._component])) == 0


def await_controllers(api: Api, namespace: str) -> None:
    """Return when the cluster's own controllers are back too: the longer the outage, the longer each of them waits."""
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    account = partial(api.exists, "v1", "ServiceAccount", "default", namespace=namespace)
    wait_until(account, what="the controllers to be back", seconds=120)
    api.delete("v1", "Namespace", namespace)


@pytest.mark.parametrize("component", ["kube-apiserver", "tekton-webhook"])
def test_pushes_that_come_while_the_cluster_is_away_run_as_soon_as_it_is_back(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy, component: str
) -> None:
    """The pod is restarted meanwhile, too: the public plane needs no cluster to start."""
    planes.start()
    sent = pushes(PUSHES)
    back = Return(control_plane, component, run_namespace)
    with ExitStack() as stack:
        outage = stack.enter_context(ExitStack())
        outage.enter_context(control_plane.outage(component))
        gone_at = time.monotonic()
        send_all(planes, sent[:-50], senders=8)
        for plane in ("serve", "work"):
            planes.kill(plane)
        planes.start()
        send_all(planes, sent[-50:], senders=8)
        assert states(planes) == {"waiting": PUSHES}
        wait_until(lambda: time.monotonic() > gone_at + AWAY_SECONDS, what="the outage to last", seconds=90)
        calls = metrics(planes.private_port)
        away_seconds = time.monotonic() - gone_at
        proxy.most_asking = 0
        stack.enter_context(back)
        outage.close()
        wait_created(planes, sent, seconds=60)
    started = [job["started_at"] - back.at for job in job_rows(planes)]
    by_second = [count for _, count in sorted(Counter(map(math.floor, started)).items())]
    drained = (
        f"all runs {max(started):.2f} s after its return: {by_second} a second, {proxy.most_asking} requests at once"
    )
    click.echo(f"{component} away {away_seconds:.1f} s, {drained}")
    assert max(started) < DRAINED_SECONDS
    # All that wait do not come at once.
    assert proxy.most_asking <= CONCURRENCY + OTHER_REQUESTS
    assert_acknowledged(sent, within=5.0)
    assert_one_run_each(planes, control_plane.api, run_namespace, sent)
    tries = {
        name: number
        for name, number in calls.items()
        if name.startswith("receiver_api_calls_total{") and "create" in name
    }
    failed = sum(number for name, number in tries.items() if 'status="201"' not in name)
    # At first as many as are created at once, then one a second, with the jitter no more than two.
    assert failed <= 16 + 2 * away_seconds
    await_controllers(control_plane.api, f"{run_namespace}-after")


def test_outcomes_are_seen_soon_after_the_api_server_was_restarted(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy
) -> None:
    """Once after a restart, which ends the watch; once with a watch that has died without a word."""
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    planes.start()
    sent = sent_and_started(planes, 3)
    names = sorted(names_of(sent))
    with control_plane.outage("kube-apiserver"):
        pass
    for number, name in enumerate(names, start=1):
        # On a busy machine Tekton's controller takes its time to come back, too.
        pods.finish_run(control_plane.api, run_namespace, name, seconds=120)
        ended_at = time.monotonic()
        wait_until(lambda: states(planes)["finished"] == number, what="the outcome", seconds=60)  # noqa: B023 - called here
        click.echo(f"outcome {time.monotonic() - ended_at:.2f} s after the end of the run")
        assert time.monotonic() - ended_at < 10
        proxy.reset()


def test_pushes_are_taken_in_while_nobody_works(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy
) -> None:
    proxy.down()
    planes.start("serve")
    sent = pushes(5)
    send_all(planes, sent)
    assert_acknowledged(sent)
    assert send(planes, sent[0], anew=True) == 202
    proxy.up()
    planes.start("work")
    wait_created(planes, sent, seconds=30)
    assert run_names(control_plane.api, run_namespace) == names_of(sent)
