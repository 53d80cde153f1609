"""Every file of k8s/ and config/ is accepted by the real API server, with Tekton's admission, as it would be for a user."""

from pathlib import Path

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.controlplane_suite.deployed import K8S, OVERLAYS, ROOT, build, kubectl

pytestmark = pytest.mark.controlplane


@pytest.mark.parametrize("folder", [K8S / "striv", K8S / "base", *OVERLAYS], ids=lambda path: path.name)
def test_the_api_server_accepts_all_of_it_strictly_and_without_a_warning(
    namespaces: ControlPlane, folder: Path
) -> None:
    result = kubectl(
        namespaces,
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", str(folder)),
    )

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == len(build(namespaces, folder))


def test_the_template_of_a_run_is_accepted_strictly(namespaces: ControlPlane) -> None:
    for file in sorted((ROOT / "config" / "pipelineruns").glob("*.yaml")):
        result = kubectl(namespaces, "create", "--dry-run=server", "--validate=strict", "-f", str(file))
        assert result.returncode == 0, result.stderr
