"""A receiver whose public plane is in an attacker's hands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.takeover.attack import Attack, attacking, on_postgresql, on_sqlite
from tests.controlplane.cluster import ControlPlane
from tests.support.planes import Planes


@pytest.fixture
def planes(control_plane: ControlPlane, run_namespace: str, tmp_path: Path) -> Planes:
    """Without the fixture's own end: the worker may have stopped by itself."""
    return Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=control_plane.kubeconfig,
        namespace=run_namespace,
        changes={"work": {"relist_seconds": 2, "lease_seconds": 3}},
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def attack(
    request: pytest.FixtureRequest, planes: Planes, control_plane: ControlPlane, run_namespace: str
) -> Iterator[Attack]:
    """On each database in turn."""
    server = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    journal = on_postgresql(server) if server else on_sqlite(planes)
    with attacking(journal, planes, control_plane, run_namespace) as attack:
        yield attack


@pytest.fixture
def file_attack(planes: Planes, control_plane: ControlPlane, run_namespace: str) -> Iterator[Attack]:
    """On SQLite alone, where the public plane can write anything into the file."""
    with attacking(on_sqlite(planes), planes, control_plane, run_namespace) as attack:
        yield attack
