"""The short form of `make torture`: real processes, a real API server, random SIGKILLs under load."""

from __future__ import annotations

import os
import random
from pathlib import Path

import click
import pytest

from tests.controlplane.cluster import ControlPlane
from tests.support.planes import Planes
from tests.torture import SHORT_LEASES, torture

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
KILLS = 25


def test_nothing_acknowledged_is_lost_and_nothing_runs_twice_through_random_kills(
    control_plane: ControlPlane, run_namespace: str, tmp_path: Path
) -> None:
    """STRIV_SEED repeats the choices of an earlier run, which its output names."""
    seed = int(os.environ.get("STRIV_SEED") or random.randrange(1_000_000))
    click.echo(f"STRIV_SEED={seed}")
    planes = Planes.prepare(
        tmp_path / "receiver", kubeconfig=control_plane.kubeconfig, namespace=run_namespace, changes=SHORT_LEASES
    )
    try:
        report = torture(planes, control_plane.api, run_namespace, kills=KILLS, seed=seed, say=click.echo)
    finally:
        planes.stop()
    click.echo(report)
    assert report.kills == KILLS
    assert report.acknowledged_under_fire > KILLS
