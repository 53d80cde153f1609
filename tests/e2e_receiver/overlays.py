"""An overlay as a user would write it: one of ours, with an image and a configuration of its own."""

import os
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.support.cluster import CHECKOUT
from tests.e2e.support.repository import URL
from tests.e2e_receiver.installation import NAMESPACE, NODE_PORT

_PORT = [
    {"op": "add", "path": "/spec/type", "value": "NodePort"},
    {"op": "add", "path": "/spec/ports/0/nodePort", "value": NODE_PORT},
]


def write_overlay(folder: Path, *, overlay: str, image: str) -> None:
    """Write kustomization.yaml, receiver.yaml and the templates into a folder.

    Pushes to held/** start runs that Tekton holds, which cost the cluster nothing. All others fetch from the git server of
    the tests.
    """
    # YAML 1.1, which PyYAML speaks, reads a bare `on` as true.
    text = (CHECKOUT / "config" / "receiver.yaml").read_text().replace("\n  on:", "\n  'on':")
    config: dict[str, Any] = yaml.safe_load(text)
    (real,) = config["triggers"]
    held = {**real, "name": "held", "template": "pipelineruns/held.yaml", "on": {"push": {"branches": ["held/**"]}}}
    # A run that is held never ends, and would keep the others waiting.
    del held["max_active"]
    real["on"]["push"]["branches"].append("!held/**")
    config["triggers"] = [real, held]
    template: dict[str, Any] = yaml.safe_load((CHECKOUT / "config" / "pipelineruns" / "striv.yaml").read_text())
    (repo_url,) = [param for param in template["spec"]["params"] if param["name"] == "repo-url"]
    repo_url["value"] = URL
    _write(folder / "receiver.yaml", config)
    _write(folder / "striv.yaml", template)
    template["spec"]["status"] = "PipelineRunPending"
    _write(folder / "held.yaml", template)
    name, _, tag = image.rpartition(":")
    _write(
        folder / "kustomization.yaml",
        {
            "resources": [os.path.relpath(CHECKOUT / "k8s" / "overlays" / overlay, folder)],
            "images": [{"name": "striv-receiver", "newName": name, "newTag": tag}],
            "patches": [{"target": {"kind": "Service", "name": "receiver"}, "patch": yaml.safe_dump(_PORT)}],
            "configMapGenerator": [
                _replaced("receiver-config", "receiver.yaml"),
                _replaced("receiver-pipelineruns", "striv.yaml", "held.yaml"),
            ],
        },
    )


def _replaced(name: str, *files: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "behavior": "replace", "files": list(files)}


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False))
