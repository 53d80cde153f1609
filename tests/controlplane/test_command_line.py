"""The control plane is there for people too: with kubectl, and by `python -m tests.controlplane`."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.controlplane import __main__ as command_line
from tests.controlplane.cluster import ControlPlane

pytestmark = pytest.mark.controlplane


def test_kubectl_works_with_the_kubeconfig(control_plane: ControlPlane) -> None:
    answer = subprocess.run(
        [control_plane.programs["kubectl"], "auth", "whoami"],
        env=os.environ | control_plane.environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.search(r"^Groups +\[system:masters ", answer.stdout, re.MULTILINE)


def test_up_leaves_a_control_plane_that_down_removes(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path / "state")]

    assert command_line.main(["status", *state]) == 1
    assert command_line.main(["up", *state]) == 0
    try:
        assert f"export KUBECONFIG={tmp_path}/state/kubeconfig" in capsys.readouterr().out
        assert command_line.main(["status", *state]) == 0
        other = ControlPlane.attach(tmp_path / "state")
        assert other
        assert other.server != control_plane.server
        other.kill_component("kube-controller-manager")
        assert command_line.main(["status", *state]) == 1
        assert command_line.main(["up", *state]) == 0
        assert command_line.main(["status", *state]) == 0
    finally:
        assert command_line.main(["down", *state]) == 0
    assert not (tmp_path / "state" / "kubeconfig").exists()
    assert not any(other.running().values())
