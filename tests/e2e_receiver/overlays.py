"""A user's checkout: our manifests with a configuration and an overlay of the user's own."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.support.cluster import CHECKOUT
from tests.e2e.support.repository import URL
from tests.e2e_receiver.installation import NODE_PORT

_PORT = [
    {"op": "add", "path": "/spec/type", "value": "NodePort"},
    {"op": "add", "path": "/spec/ports/0/nodePort", "value": NODE_PORT},
]


def copy_checkout(folder: Path) -> None:
    """Copy config/ and k8s/, and write a configuration with two triggers.

    Pushes to held/** start runs that Tekton holds, which cost the cluster nothing. All others fetch from the git server of
    the tests.
    """
    for name in ("config", "k8s"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("secrets", "mine"))
    config = _read(folder / "config" / "receiver.yaml")
    (real,) = config["triggers"]
    held = {**real, "name": "held", "template": "pipelineruns/held.yaml", "on": {"push": {"branches": ["held/**"]}}}
    # A run that is held never ends, and would keep the others waiting.
    del held["max_active"]
    real["on"]["push"]["branches"].append("!held/**")
    config["triggers"] = [real, held]
    _write(folder / "config" / "receiver.yaml", config)
    template = _read(folder / "config" / "pipelineruns" / "striv.yaml")
    (repo_url,) = [param for param in template["spec"]["params"] if param["name"] == "repo-url"]
    repo_url["value"] = URL
    _write(folder / "config" / "pipelineruns" / "striv.yaml", template)
    template["spec"]["status"] = "PipelineRunPending"
    _write(folder / "config" / "pipelineruns" / "held.yaml", template)
    kustomization = _read(folder / "config" / "kustomization.yaml")
    (templates,) = [g for g in kustomization["configMapGenerator"] if g["name"] == "receiver-pipelineruns"]
    templates["files"].append("pipelineruns/held.yaml")
    _write(folder / "config" / "kustomization.yaml", kustomization)


def write_overlay(folder: Path, *, overlay: str, image: str) -> None:
    """Write k8s/overlays/mine, which installs another overlay with an image, at a port of the node."""
    name, _, tag = image.rpartition(":")
    service = {"target": {"kind": "Service", "name": "receiver"}, "patch": yaml.safe_dump(_PORT)}
    mine = folder / "k8s" / "overlays" / "mine"
    mine.mkdir(exist_ok=True)
    _write(
        mine / "kustomization.yaml",
        {
            "resources": [f"../{overlay}"],
            "images": [{"name": "striv-receiver", "newName": name, "newTag": tag}],
            # The overlay `local` is to open it by itself.
            "patches": [] if overlay == "local" else [service],
        },
    )


def _read(file: Path) -> dict[str, Any]:
    # YAML 1.1, which PyYAML speaks, reads a bare `on` as true.
    content: dict[str, Any] = yaml.safe_load(file.read_text().replace("\n  on:", "\n  'on':"))
    return content


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False))
