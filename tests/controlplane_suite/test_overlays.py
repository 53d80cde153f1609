"""What kustomize makes of k8s/overlays, and of the overlay that a user writes, is of one piece."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane
from tests.controlplane_suite.deployed import K8S, NAMESPACE, OVERLAYS, ROOT, RUNS, Object, build, of_kind

pytestmark = pytest.mark.controlplane


def referred(pod: Object) -> dict[str, set[str]]:
    """Return what a pod refers to by name: kind -> names."""
    volumes = pod["volumes"]
    return {
        "ConfigMap": {v["configMap"]["name"] for v in volumes if "configMap" in v},
        "PersistentVolumeClaim": {
            v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
        },
        "ServiceAccount": {pod["serviceAccountName"]},
    }


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_every_name_leads_to_an_object_of_the_same_namespace(control_plane: ControlPlane, folder: Path) -> None:
    objects = build(control_plane, folder)
    there = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()

    for kind, names in referred(pod).items():
        assert {(kind, NAMESPACE, name) for name in names} <= there
    assert {o["metadata"]["name"] for o in of_kind(objects, "ConfigMap")} == referred(pod)["ConfigMap"]
    assert {o["metadata"]["name"] for o in of_kind(objects, "PersistentVolumeClaim")} == (
        referred(pod)["PersistentVolumeClaim"]
    )
    (binding,) = of_kind(objects, "RoleBinding")
    (subject,) = binding["subjects"]
    assert binding["metadata"]["namespace"] == RUNS
    assert ("Role", RUNS, binding["roleRef"]["name"]) in there
    assert ("ServiceAccount", subject["namespace"], subject["name"]) in there
    (service,) = of_kind(objects, "Service")
    assert service["spec"]["selector"].items() <= labels
    for policy in of_kind(objects, "NetworkPolicy"):
        assert policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels
    for ingress in of_kind(objects, "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert (backend["name"], backend["port"]["name"]) == (
            service["metadata"]["name"],
            service["spec"]["ports"][0]["name"],
        )


def users_overlay(folder: Path, **more: Any) -> Path:
    """Write an overlay outside the checkout, as a user's own repository would have it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"resources": [os.path.relpath(K8S / "base", folder)], **more}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_one_entry_replaces_the_image_of_all_containers(control_plane: ControlPlane, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    image = {"name": "striv-receiver", "newName": "registry.example.com/ci/receiver", "digest": digest}

    objects = build(control_plane, users_overlay(tmp_path / "mine", images=[image]))

    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    images = {c["image"] for c in [*pod["initContainers"], *pod["containers"]]}
    assert images == {f"registry.example.com/ci/receiver@{digest}"}


def test_another_configuration_rolls_the_pod(control_plane: ControlPlane, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    generator = {
        "name": "receiver-config",
        "namespace": NAMESPACE,
        "behavior": "replace",
        "files": ["receiver.yaml"],
    }
    names = set()
    for level in ("info", "debug"):
        users_overlay(folder, configMapGenerator=[generator])
        shutil.copy(ROOT / "config" / "receiver.yaml", folder)
        text = (folder / "receiver.yaml").read_text()
        assert "level: info" in text
        (folder / "receiver.yaml").write_text(text.replace("level: info", f"level: {level}"))

        objects = build(control_plane, folder)

        (deployment,) = of_kind(objects, "Deployment")
        config = next(v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "config")
        (stored,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == config["configMap"]["name"]]
        assert f"level: {level}" in stored["data"]["receiver.yaml"]
        names.add(config["configMap"]["name"])
    assert len(names) == 2
