"""The cluster away, slow, cut off or refusing: nothing acknowledged is lost, nothing doubled, and nobody at GitHub notices.

STRIV_FULL=1 makes the outages as long as the requirements have them.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import click
import pytest
import requests

from tests.acceptance.test_main_path import make_pipeline, simplify
from tests.controlplane import pods
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.controlplane.pki import make_pki
from tests.controlplane.waiting import wait_until
from tests.support.kubeconfigs import (
    bind_worker_account,
    make_worker_account,
    unbind_worker_account,
    write_kubeconfig,
)
from tests.support.load import Pushed, new_push, send, send_all
from tests.support.planes import Planes
from tests.support.proxy import Proxy, Toxic
from tests.support.quotas import limit_runs
from tests.support.seen import job_rows, metrics, run_names, states

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
FULL = os.environ.get("STRIV_FULL") == "1"
AWAY_SECONDS = 60.0 if FULL else 8.0
DRAINED_SECONDS = 5.0 if FULL else 30.0
PUSHES = 300
CONCURRENCY = 16
OTHER_REQUESTS = 4
"""A watch, two lists, and a question for a failed task."""
PROMPT_SECONDS = 1.0
"""No acknowledgement may take longer, on a machine that is busy with other things too."""
SHORT_TIMEOUTS = {"connect_timeout_seconds": 1, "read_timeout_seconds": 2}


def pushes(number: int) -> list[Pushed]:
    return [new_push(str(each), branch=f"branch-{each % 5}") for each in range(number)]


def assert_acknowledged(sent: list[Pushed], *, within: float = PROMPT_SECONDS) -> None:
    assert {tuple(pushed.statuses) for pushed in sent} == {(202,)}
    assert max(seconds for pushed in sent for seconds in pushed.seconds) < within


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


def names_of(sent: list[Pushed]) -> set[str]:
    names = {name for pushed in sent for name in pushed.runs}
    assert len(names) == len(sent)
    return names


def wait_created(planes: Planes, sent: list[Pushed], *, seconds: float) -> None:
    """Wait until the journal says of all jobs that their runs exist."""

    def are_created() -> bool:
        # One look: a job that ends between two of them would be counted twice.
        seen = states(planes)
        return seen["started"] + seen["finished"] == len(sent)

    wait_until(are_created, what=f"{len(sent)} runs", seconds=seconds, every=0.1)


def assert_one_run_each(planes: Planes, api: Api, namespace: str, sent: list[Pushed]) -> None:
    """Compare runs, journal and answers; an outage has used up nobody's patience."""
    assert run_names(api, namespace) == names_of(sent)
    assert {job["run_name"] for job in job_rows(planes)} == names_of(sent)
    assert {job["attempts"] for job in job_rows(planes)} == {0}


@pytest.fixture
def token(control_plane: ControlPlane, run_namespace: str) -> str:
    """The token of an account with the worker's rights: RBAC holds for it, as it does not for the administrator."""
    return make_worker_account(control_plane.api, run_namespace)


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    with Proxy(control_plane.ports["kube-apiserver"]) as proxy:
        yield proxy


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, proxy: Proxy, token: str, tmp_path: Path) -> Path:
    """The worker's way to the cluster: through the proxy, under its own account."""
    return write_kubeconfig(tmp_path / "kubeconfig", control_plane.kubeconfig, port=proxy.port, token=token)


@pytest.fixture
def planes(kubeconfig: Path, run_namespace: str, tmp_path: Path) -> Iterator[Planes]:
    prepared = Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=kubeconfig,
        namespace=run_namespace,
        changes={"cluster": SHORT_TIMEOUTS, "work": {"lease_seconds": 3}},
    )
    yield prepared
    prepared.stop()


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
    first = pushes(1)
    send_all(planes, first)
    wait_created(planes, first, seconds=30)
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
        sent = pushes(1)
        send_all(planes, sent)
        wait_created(planes, sent, seconds=30)
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
    first = pushes(1)
    send_all(planes, first)
    wait_created(planes, first, seconds=30)
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
    sent = pushes(1)
    send_all(planes, sent)
    wait_created(planes, sent, seconds=30)
    planes.kill("work")
    write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=proxy.port, token="revoked")
    planes.start("work")
    wait_until(lambda: "watch interrupted" in planes.log("work"), what="the worker to notice")
    write_kubeconfig(kubeconfig, control_plane.kubeconfig, port=proxy.port, token=token)
    (name,) = names_of(sent)
    pods.finish_run(control_plane.api, run_namespace, name)
    wait_until(lambda: states(planes)["finished"] == 1, what="the outcome", seconds=10)


def test_outcomes_are_seen_soon_after_the_api_server_was_restarted(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy
) -> None:
    """Once after a restart, which ends the watch; once with a watch that has died without a word."""
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    planes.start()
    sent = pushes(3)
    send_all(planes, sent)
    wait_created(planes, sent, seconds=30)
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
    template = planes.folder / "pipelineruns/striv.yaml"
    good = template.read_text()
    template.write_text(good.replace("\n  pipelineRef:", "\n  nonsense: true\n  pipelineRef:"))
    planes.start()
    sent = pushes(3)
    send_all(planes, sent)
    assert_dead_at_once(planes, sent, 'unknown field "spec.nonsense"')
    template.write_text(good)
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
