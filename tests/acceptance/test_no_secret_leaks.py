"""Neither log nor metrics hold a secret: not when all is well, and not when everything fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
import yaml

from tests.controlplane.cluster import ControlPlane
from tests.support.kubeconfigs import make_worker_account, unbind_worker_account, write_kubeconfig
from tests.support.load import new_push, send
from tests.support.planes import SECRET, Planes
from tests.support.postgres import SERVE, WORK, PostgreSQL
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]


def test_neither_log_nor_metrics_of_a_plane_hold_a_secret_whatever_fails(
    control_plane: ControlPlane, run_namespace: str, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    token = make_worker_account(control_plane.api, run_namespace)
    with (
        postgresql.database() as database,
        Proxy(postgresql.port) as to_database,
        Proxy(control_plane.ports["kube-apiserver"]) as to_cluster,
    ):
        urls = {
            role: database.url(role).set(port=to_database.port).render_as_string(hide_password=False)
            for role in (SERVE, WORK)
        }
        kubeconfig = write_kubeconfig(
            tmp_path / "kubeconfig", control_plane.kubeconfig, port=to_cluster.port, token=token
        )
        planes = Planes.prepare(
            tmp_path / "receiver",
            kubeconfig=kubeconfig,
            namespace=run_namespace,
            changes={"journal": {"url": urls[SERVE]}, "log": {"level": "debug"}, "work": {"relist_seconds": 1}},
        )
        planes.has_journal = True
        try:
            for plane, role in (("serve", SERVE), ("work", WORK)):
                planes.start(plane, environment={"RECEIVER__JOURNAL__URL": urls[role]})
            assert send(planes, new_push("well")) == 202
            wait_until(lambda: "run created" in planes.log("work"), what="a run", seconds=30)
            assert requests.post(planes.url, data=b"{}", timeout=10).status_code == 401
            unbind_worker_account(control_plane.api, run_namespace)
            assert send(planes, new_push("refused")) == 202
            wait_until(lambda: "job dead" in planes.log("work"), what="a refusal", seconds=30)
            to_cluster.down()
            assert send(planes, new_push("away")) == 202
            wait_until(lambda: "cluster away" in planes.log("work"), what="the cluster to be away", seconds=30)
            to_database.down()
            assert send(planes, new_push("lost")) == 503
            wait_until(lambda: "journal away" in planes.log("work"), what="the journal to be away", seconds=30)
            exposed = [requests.get(f"http://{address}/metrics", timeout=20).text for address in metrics_of(planes)]
        finally:
            planes.stop()
        texts = {"serve": planes.log("serve"), "work": planes.log("work"), "metrics": "".join(exposed)}
    assert 'receiver_deliveries_total{reason="accepted"' in texts["metrics"]
    assert "receiver_api_calls_total{" in texts["metrics"]
    hidden = {"the token": token, "the password": postgresql.password, "the webhook's secret": SECRET.decode()}
    for where, text in texts.items():
        assert [name for name, value in hidden.items() if value in text] == [], where


def metrics_of(planes: Planes) -> list[str]:
    listen = yaml.safe_load((planes.folder / "receiver.yaml").read_text())["serve"]["metrics_listen"]
    return [listen, f"127.0.0.1:{planes.private_port}"]
