"""The control plane survives the outage of each of its components."""

import signal

import pytest
import requests

from tests.controlplane import pods
from tests.controlplane.api import ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.pipeline_runs import pipeline_run

pytestmark = pytest.mark.controlplane


def test_the_api_server_returns_with_its_data_after_an_outage(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    api.create(pipeline_run("survivor"), namespace=run_namespace)

    with control_plane.outage("kube-apiserver"):
        assert not control_plane.running()["kube-apiserver"]
        with pytest.raises(requests.ConnectionError):
            api.get(pods.TEKTON, "PipelineRun", "survivor", namespace=run_namespace)

    assert api.exists(pods.TEKTON, "PipelineRun", "survivor", namespace=run_namespace)
    assert pods.succeeded(pods.finish_run(api, run_namespace, "survivor", seconds=90))["status"] == "True"


def test_nothing_is_admitted_while_tektons_webhook_is_away(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api

    with control_plane.outage("tekton-webhook"), pytest.raises(ApiError) as refusal:
        api.create(pipeline_run("unlucky"), namespace=run_namespace)

    assert refusal.value.code == 500
    assert "failed calling webhook" in refusal.value.message
    api.create(pipeline_run("unlucky"), namespace=run_namespace)


def test_a_run_created_while_tektons_controller_is_away_starts_when_it_returns(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    control_plane.stop_component("tekton-controller")
    try:
        api.create(pipeline_run("patient"), namespace=run_namespace)
        assert not pods.task_runs(api, run_namespace, "patient")
    finally:
        control_plane.start_component("tekton-controller")

    assert pods.succeeded(pods.finish_run(api, run_namespace, "patient"))["status"] == "True"


def test_a_stopped_api_server_does_not_answer_until_it_is_continued(control_plane: ControlPlane) -> None:
    url, verify = f"{control_plane.server}/livez", str(control_plane.pki.ca)
    control_plane.kill_component("kube-apiserver", signal.SIGSTOP)
    try:
        with pytest.raises(requests.Timeout):
            requests.get(url, verify=verify, timeout=0.3)
    finally:
        control_plane.kill_component("kube-apiserver", signal.SIGCONT)

    assert requests.get(url, verify=verify, timeout=30).text == "ok"
