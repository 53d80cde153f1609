"""HTTP 410 from a real API server: the version that a watch would go on from is gone, and no outcome is missed by it.

STRIV_FULL=1 lets the watch last as long as usual.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import requests

from receiver.clients.cluster import Cluster
from receiver.clients.refusals import WatchExpiredError
from receiver.settings.model import ClusterSettings
from tests.controlplane import pods
from tests.controlplane.cluster import ControlPlane
from tests.support.kubeconfigs import write_kubeconfig
from tests.support.load import new_push, send_all
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.proxy import Proxy, Toxic
from tests.support.seen import job_rows, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
FULL = os.environ.get("STRIV_FULL") == "1"
THROUGH = ("receiver",) if FULL else ("tests.support.short_watches",)
RUNS = "/apis/tekton.dev/v1/namespaces/{}/pipelineruns"


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    with Proxy(control_plane.ports["kube-apiserver"]) as proxy:
        yield proxy


@pytest.fixture
def planes(control_plane: ControlPlane, proxy: Proxy, run_namespace: str, tmp_path: Path) -> Iterator[Planes]:
    """The comparison with the list, which would see every outcome too, is put off beyond the end of the test."""
    prepared = Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=write_kubeconfig(tmp_path / "kubeconfig", control_plane.kubeconfig, port=proxy.port),
        namespace=run_namespace,
        changes={"work": {"relist_seconds": 3_600}},
    )
    yield prepared
    prepared.stop()


@pytest.fixture
def cluster(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    """The adapter of the receiver, straight to the API server."""
    settings = ClusterSettings(kubeconfig=str(control_plane.kubeconfig))
    connected = Cluster(settings, folder=tmp_path, connections=2)
    yield connected
    connected.close()


def compact(control_plane: ControlPlane, version: str) -> None:
    """Let etcd forget what was before a version, as the API server does every five minutes."""
    url = f"http://127.0.0.1:{control_plane.ports['etcd']}/v3/kv/compaction"
    answer = requests.post(url, json={"revision": version, "physical": True}, timeout=10)
    assert answer.ok, answer.text


def state_of(planes: Planes, name: str) -> str:
    """Return the state of the job whose run has this name."""
    (state,) = [job["state"] for job in job_rows(planes) if job["run_name"] == name]
    return str(state)


def test_the_api_server_answers_a_watch_from_a_version_that_is_gone_as_the_fakes_do(
    control_plane: ControlPlane, run_namespace: str, cluster: Cluster
) -> None:
    answer = requests.get(
        control_plane.server + RUNS.format(run_namespace),
        params={"watch": "true", "resourceVersion": "1", "timeoutSeconds": "5"},
        headers={"Authorization": f"Bearer {control_plane.token}"},
        verify=str(control_plane.pki.ca),
        timeout=10,
    )
    assert (answer.status_code, answer.json()["type"]) == (200, "ERROR")
    assert {"kind": "Status", "code": 410, "reason": "Expired"}.items() <= answer.json()["object"].items()
    with pytest.raises(WatchExpiredError, match="too old resource version: 1 "):
        list(cluster.watch_runs(run_namespace, "1"))


def test_a_run_that_ends_while_the_worker_cannot_ask_is_seen_though_its_watch_is_gone(
    control_plane: ControlPlane, run_namespace: str, planes: Planes, proxy: Proxy, cluster: Cluster
) -> None:
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    # With its cache the API server remembers more than etcd.
    with control_plane.changed("kube-apiserver", "--watch-cache=false"):
        planes.start("serve")
        planes.launch("work", through=THROUGH)
        planes.wait_ready("work")
        sent = [new_push(str(number)) for number in range(2)]
        send_all(planes, sent)
        wait_until(lambda: states(planes) == {"started": 2}, what="the runs")
        (meanwhile,), (later,) = (pushed.runs for pushed in sent)
        proxy.poison(Toxic(holds=True))
        wait_until(lambda: proxy.held, what="the watch to end and the next to be asked for", seconds=90)
        _, before = cluster.list_runs(run_namespace)
        pods.finish_run(control_plane.api, run_namespace, meanwhile, seconds=120)
        _, after = cluster.list_runs(run_namespace)
        compact(control_plane, after)
        with pytest.raises(WatchExpiredError):
            list(cluster.watch_runs(run_namespace, before))
        assert states(planes) == {"started": 2}
        proxy.heal()
        healed_at = time.monotonic()
        wait_until(lambda: states(planes) == {"started": 1, "finished": 1}, what="the outcome", seconds=60)
        click.echo(f"outcome {time.monotonic() - healed_at:.2f} s after the worker could ask again")
        assert time.monotonic() - healed_at < 10
        assert "watch interrupted" not in planes.log("work")
        pods.finish_run(control_plane.api, run_namespace, later, failing_task="test-backend")
        ended_at = time.monotonic()
        wait_until(lambda: states(planes) == {"finished": 2}, what="the next outcome", seconds=60)
        click.echo(f"outcome {time.monotonic() - ended_at:.2f} s after the end of the run")
        assert time.monotonic() - ended_at < 10


def test_a_run_that_only_lost_its_label_is_not_recorded_as_deleted(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    """The API server tells a watch that selects by the label of a deletion."""
    make_pipeline(control_plane.api, run_namespace)
    simplify(planes)
    planes.start()
    sent = [new_push(str(number)) for number in range(2)]
    send_all(planes, sent)
    wait_until(lambda: states(planes) == {"started": 2}, what="the runs")
    (bare,), (later,) = (pushed.runs for pushed in sent)
    labels = {"app.kubernetes.io/managed-by": None}
    control_plane.api.patch(pods.TEKTON, "PipelineRun", bare, {"metadata": {"labels": labels}}, namespace=run_namespace)
    pods.finish_run(control_plane.api, run_namespace, later)
    wait_until(lambda: state_of(planes, later) == "finished", what="the outcome of the run that ended after that")
    assert state_of(planes, bare) == "started"
