"""What the demonstration says and when it fails; the whole of it is run with the documents' other commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import demo
from tests.support.planes import Planes


@pytest.fixture
def planes(tmp_path: Path) -> Planes:
    """A receiver that is not started."""
    return Planes.prepare(tmp_path / "receiver", kubeconfig=tmp_path / "kubeconfig", namespace="striv-ci")


def put_kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `kubectl` be a shell script."""
    folder.mkdir()
    (folder / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_what_stays_of_our_own_cluster_is_named_with_its_kubectl_and_how_to_stop_it(planes: Planes) -> None:
    text = demo.what_stays(planes, Path("/x/controlplane/kubeconfig"), "/programs")
    assert "  export KUBECONFIG=/x/controlplane/kubeconfig RECEIVER_CONFIG=" in text
    assert "/receiver.yaml PATH=/programs:$PATH\n" in text
    assert text.endswith(" -m tests.controlplane --state /x/controlplane down")


def test_of_a_cluster_that_was_given_nothing_is_stopped_and_no_path_is_set(planes: Planes) -> None:
    text = demo.what_stays(planes, Path("/home/ada/.kube/config"), "")
    assert "  export KUBECONFIG=/home/ada/.kube/config RECEIVER_CONFIG=" in text
    assert [word for word in ("PATH=", " down", "Stop it") if word in text] == []


def test_a_step_that_fails_with_keep_still_says_what_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_kubectl(tmp_path / "bin", monkeypatch, "exit 1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, value in {"KEEP": "1", "DEMO_KUBECONFIG": str(tmp_path / "kubeconfig"), "KUBECONFIG": ""}.items():
        monkeypatch.setenv(name, value)
    path = os.environ["PATH"]
    with pytest.raises(SystemExit, match="kubectl apply"):
        demo.main()
    said = capsys.readouterr().out
    assert f"\n  export KUBECONFIG={tmp_path}/kubeconfig RECEIVER_CONFIG={tmp_path}/striv-receiver-demo-" in said
    assert "the receiver does not run" in said
    assert os.environ["PATH"] == path


def test_a_run_that_tekton_does_not_touch_fails_the_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_kubectl(tmp_path / "bin", monkeypatch, "echo No resources found >&2")
    with pytest.raises(SystemExit, match="gave up waiting for TaskRuns of striv-x"):
        demo.show_taskruns("striv-x", seconds=0.01)


def test_the_taskruns_of_the_run_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_kubectl(tmp_path / "bin", monkeypatch, 'echo "$@"')
    demo.show_taskruns("striv-x")
    shown = "get taskruns --namespace striv-ci -l tekton.dev/pipelineRun=striv-x\n"
    assert capsys.readouterr().out == shown
