from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.support.planes import Planes


@pytest.fixture
def planes(control_plane: ControlPlane, run_namespace: str, tmp_path: Path) -> Iterator[Planes]:
    """A prepared receiver whose runs go to a namespace of the test's own; whatever still runs is stopped at the end."""
    prepared = Planes.prepare(tmp_path / "receiver", kubeconfig=control_plane.kubeconfig, namespace=run_namespace)
    yield prepared
    prepared.stop()
