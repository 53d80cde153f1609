"""The commands that stay: how they begin where they cannot, and how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import requests

from receiver.journal.engine import journal_url, open_engine
from receiver.journal.wake import open_alarm
from tests.support.folders import write_folder
from tests.support.planes import Planes, free_port
from tests.support.pushes import encoded, push_payload
from tests.support.signing import new_guid
from tests.support.waiting import wait_until


@pytest.fixture
def planes(tmp_path: Path) -> Planes:
    """A receiver whose cluster never answers."""
    kubeconfig = tmp_path / "kubeconfig"
    server = {"server": f"http://127.0.0.1:{free_port()}"}
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "none",
                "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
                "clusters": [{"name": "none", "cluster": server}],
                "users": [{"name": "none", "user": {}}],
            }
        )
    )
    return Planes.prepare(tmp_path / "receiver", kubeconfig=kubeconfig, namespace="striv-ci")


def responds(planes: Planes) -> bool:
    return all(answers(f"http://127.0.0.1:{port}/healthz") for port in (planes.port, planes.private_port))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_lets_both_planes_finish_and_exits_0(planes: Planes, number: signal.Signals) -> None:
    planes.launch("run")
    process = planes.processes["run"]
    try:
        wait_until(lambda: responds(planes), what=f"both planes:\n{planes.log('run')}", seconds=20)
        # A delivery that is still on its way when the signal comes.
        with socket.create_connection(("127.0.0.1", planes.port), timeout=10) as client:
            head = "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Hub-Signature-256: sha256=" + "0" * 64
            client.sendall(head.encode() + b"\r\n\r\n{")
            process.send_signal(number)
            wait_until(lambda: '"stopped"' in planes.log("run"), what="the quicker plane to stop", seconds=10)
            client.sendall(b"}")
            assert client.recv(64).startswith(b"HTTP/1.1 401")
        assert process.wait(15) == 0, planes.log("run")
    finally:
        if process.poll() is None:
            process.kill()
    assert planes.log("run").count('"stopped"') == 2


def test_run_stops_the_other_plane_and_fails_when_one_ends(planes: Planes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", planes.port))
        taken.listen()
        done = planes.command("run")
    assert done.returncode == 1
    assert "serve.listen: cannot listen on" in done.stderr


def test_an_address_that_is_taken_is_told_in_one_line(planes: Planes) -> None:
    assert planes.command("journal", "migrate").returncode == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", planes.port))
        taken.listen()
        done = planes.command("serve")
    assert done.returncode == 2
    assert f"serve.listen: cannot listen on 127.0.0.1:{planes.port} (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "serving" not in done.stderr


def listens(planes: Planes, host: str) -> None:
    """Start `serve` with both its ports on this host, and look at both."""
    assert planes.command("journal", "migrate").returncode == 0
    private = free_port()
    environment = {
        "RECEIVER__SERVE__LISTEN": f"{host}:{planes.port}",
        "RECEIVER__SERVE__METRICS_LISTEN": f"{host}:{private}",
    }
    planes.launch("serve", environment=environment)
    try:
        for port, path in ((planes.port, "healthz"), (private, "metrics")):
            url = f"http://{host}:{port}/{path}"
            wait_until(partial(answers, url), what=f"{url}\n{planes.log('serve')}", seconds=20)
    finally:
        planes.stop()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_a_host_name_can_be_listened_on(planes: Planes) -> None:
    listens(planes, "localhost")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6")
def test_ipv6_can_be_listened_on(planes: Planes) -> None:
    listens(planes, "[::1]")


def test_serve_wakes_a_worker_in_another_process_at_the_commit_of_a_push(planes: Planes) -> None:
    planes.start("serve")
    engine = open_engine(journal_url(f"sqlite:///{planes.folder}/journal.db"))
    alarm = open_alarm(engine)
    try:
        assert planes.push(encoded(push_payload(ref="refs/heads/main")), new_guid()).status_code == 202
        began = time.monotonic()
        alarm.wait(20)
        assert time.monotonic() - began < 10
    finally:
        alarm.close()
        engine.dispose()
        planes.stop()


def test_run_without_a_place_for_the_journal_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    file = write_folder(tmp_path / "config", journal={"url": f"sqlite:///{tmp_path}/file/journal.db"})
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "--config", str(file), "run"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "journal.url: the folder" in done.stderr
    assert "RECEIVER__JOURNAL__URL" in done.stderr
    assert "Traceback" not in done.stderr
