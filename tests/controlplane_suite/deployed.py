"""What k8s/ deploys: where it lies, the namespaces it goes to, and what kubectl makes of it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.cluster import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))
NAMESPACE, RUNS = "striv-receiver", "striv-ci"

Object = dict[str, Any]


def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the administrator of the control plane."""
    return subprocess.run(
        [plane.programs["kubectl"], *arguments],
        env={**os.environ, **plane.environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def path_with_kubectl(plane: ControlPlane) -> str:
    """Return a PATH on which the control plane's kubectl comes first."""
    return f"{plane.programs['kubectl'].parent}{os.pathsep}{os.environ['PATH']}"


def build(plane: ControlPlane, folder: Path) -> list[Object]:
    """Return the objects that `kubectl kustomize` makes of a folder."""
    result = kubectl(plane, "kustomize", str(folder))
    assert result.returncode == 0, result.stderr
    return [found for found in yaml.safe_load_all(result.stdout) if found]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]
