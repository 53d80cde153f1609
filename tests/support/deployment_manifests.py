"""The receiver's manifests and settings, as tests read them."""

from pathlib import Path
from typing import Any

import yaml

from receiver.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
BASE, OVERLAYS = ROOT / "k8s" / "base", ROOT / "k8s" / "overlays"
CONFIG_FOLDER = Path("/etc/receiver")

Object = dict[str, Any]


def read(path: Path) -> list[Object]:
    """Return the objects of a YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def one(path: Path, kind: str, name: str) -> Object:
    """Return one object of a file."""
    return next(o for o in read(path) if o["kind"] == kind and o["metadata"]["name"] == name)


SETTINGS = load_settings(ROOT / "config" / "receiver.yaml", {})
DEPLOYMENT = one(BASE / "deployment.yaml", "Deployment", "receiver")
POD: Object = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINERS: dict[str, Object] = {c["name"]: c for c in [*POD["initContainers"], *POD["containers"]]}
VOLUMES: dict[str, Object] = {v["name"]: v for v in POD["volumes"]}


def mounts(container: str) -> dict[str, str]:
    """Return what a container mounts: folder or file -> volume."""
    return {m["mountPath"]: m["name"] for m in CONTAINERS[container]["volumeMounts"]}


def holders(volume_kind: str) -> set[str]:
    """Return the containers that mount a volume of this kind."""
    names = {name for name, volume in VOLUMES.items() if volume_kind in volume}
    return {container for container in CONTAINERS if names & set(mounts(container).values())}
