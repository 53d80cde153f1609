"""docs/install.md from its first step on the cluster to its last: what it installs works, can be removed and installed again."""

import re
from pathlib import Path

import pytest

from tests.e2e.support.admission import dry_run, install_pipeline, job, wait_until_in_force
from tests.e2e.support.cluster import Cluster, eventually, kubectl
from tests.e2e.support.runs import BATCH
from tests.e2e_receiver.installation import NAMESPACE, OVERLAY, RUNS, Installation
from tests.e2e_receiver.overlays import copy_checkout, write_overlay
from tests.e2e_receiver.sender import new_push
from tests.support.guide import run, step

pytestmark = pytest.mark.e2e_full


def test_the_guide_installs_a_receiver_that_works_removes_it_and_installs_again(
    cluster: Cluster, image: str, tmp_path: Path
) -> None:
    copy_checkout(tmp_path)
    try:
        run(step("Any cluster", 0), folder=tmp_path)
        run(step("Any cluster", 1), folder=tmp_path, environment={"EDITOR": "true"})
        # What the editor would have done: this cluster has neither an ingress controller nor a registry.
        write_overlay(tmp_path, overlay="local", image=image)
        run(step("Any cluster", 2), folder=tmp_path)
        run(step("Any cluster", 3), folder=tmp_path)
        installation = Installation(cluster, tmp_path)
        installation.secret = (tmp_path / "config" / "secrets" / "github").read_text().strip()
        installation.wait_ready()
        checked = run(step("Any cluster", 4), folder=tmp_path)
        assert [line for line in checked.splitlines() if not line.startswith("ok ")] == []
        run(step("Any cluster", 5), folder=tmp_path)

        (name,) = installation.deliver(new_push()).runs
        installation.wait_for_run(name)
        seen = run(step("See that it works", 0), folder=tmp_path)
        # In the list, among the runs, in the log of serve and in that of work.
        assert len(re.findall(name, seen)) >= 4

        run(step("Remove", 0), folder=tmp_path)

        for path in (f"/api/v1/namespaces/{NAMESPACE}", f"/api/v1/namespaces/{RUNS}"):
            assert cluster.get(path) is None

        def volumes() -> list[str]:
            specs = [volume["spec"] for volume in cluster.items("/api/v1/persistentvolumes")]
            claims = [spec["claimRef"] for spec in specs if spec["persistentVolumeReclaimPolicy"] == "Delete"]
            return [claim["name"] for claim in claims if claim["namespace"] in (NAMESPACE, RUNS)]

        eventually(lambda: not volumes(), what="the volumes are gone", seconds=60)
        run(step("Any cluster", 0), folder=tmp_path)
        wait_until_in_force(cluster)
        # What the policies are to let through: had they lost their templates, they would refuse everything.
        deployer = cluster.as_service_account(RUNS, "test-dependencies-deployer")
        dry_run(deployer, f"{BATCH}/jobs", job(cluster, "mysql"))
    finally:
        if (tmp_path / OVERLAY).is_dir():
            kubectl("delete", "--ignore-not-found", "-k", str(tmp_path / OVERLAY))
        install_pipeline(cluster)
