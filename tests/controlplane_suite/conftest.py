"""The control plane with what is deployed on it."""

from collections.abc import Iterator

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_default_account
from tests.controlplane_suite.deployed import K8S, NAMESPACE, RUNS, kubectl


@pytest.fixture(scope="session")
def namespaces(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with both namespaces, in which a dry run can then be made."""
    for file in (K8S / "base" / "namespace.yaml", K8S / "striv" / "namespace.yaml"):
        result = kubectl(control_plane, "apply", "--server-side", "--force-conflicts", "-f", str(file))
        assert result.returncode == 0, result.stderr
    for name in (NAMESPACE, RUNS):
        make_default_account(control_plane.api, name)
    return control_plane


@pytest.fixture(scope="module")
def installed(namespaces: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with k8s/base applied for good; its Deployment and its claim are deleted after each module's tests."""
    result = kubectl(
        namespaces, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", str(K8S / "base")
    )
    assert result.returncode == 0, result.stderr
    yield namespaces
    api = namespaces.api
    api.delete("apps/v1", "Deployment", "receiver", namespace=NAMESPACE)
    # A claim's spec is immutable: while this one is there, a dry run of an overlay with another is refused.
    claim = ("v1", "PersistentVolumeClaim", "receiver-journal")
    api.delete(*claim, namespace=NAMESPACE)
    api.wait_gone(*claim, namespace=NAMESPACE)
