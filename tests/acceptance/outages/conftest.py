"""A receiver whose worker reaches the cluster through a proxy, under an account of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.support.kubeconfigs import make_worker_account, write_kubeconfig
from tests.support.planes import Planes
from tests.support.proxy import Proxy

SHORT_TIMEOUTS = {"connect_timeout_seconds": 1, "read_timeout_seconds": 2}


@pytest.fixture
def token(control_plane: ControlPlane, run_namespace: str) -> str:
    """The token of an account with the worker's rights: RBAC holds for it, as it does not for the administrator."""
    return make_worker_account(control_plane.api, run_namespace)


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    """What stands between the worker and the API server, to be broken."""
    with Proxy(control_plane.ports["kube-apiserver"]) as proxy:
        yield proxy


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, proxy: Proxy, token: str, tmp_path: Path) -> Path:
    """The worker's way to the cluster: through the proxy, under its own account."""
    return write_kubeconfig(tmp_path / "kubeconfig", control_plane.kubeconfig, port=proxy.port, token=token)


@pytest.fixture
def planes(kubeconfig: Path, run_namespace: str, tmp_path: Path) -> Iterator[Planes]:
    """A prepared receiver behind the proxy, impatient enough for short outages; what still runs is stopped at the end."""
    prepared = Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=kubeconfig,
        namespace=run_namespace,
        changes={"cluster": SHORT_TIMEOUTS, "work": {"lease_seconds": 3}},
    )
    yield prepared
    prepared.stop()
