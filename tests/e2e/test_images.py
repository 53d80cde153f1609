"""Every image can be replaced by one edit of k8s/striv/kustomization.yaml."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.support.cluster import CHECKOUT, Object, kubectl

pytestmark = pytest.mark.e2e

NAMES = [
    "docker.io/library/mysql",
    "docker.io/library/node",
    "docker.io/library/postgres",
    "docker.io/library/python",
]
FAKE_CRANE = """#!/bin/sh
# What the real one prints: the digest, here made of the name.
echo "sha256:$(printf %s "$2" | sha256sum | cut -d' ' -f1)"
"""


@pytest.fixture
def striv(tmp_path: Path) -> Path:
    """A copy of k8s/striv to edit."""
    return shutil.copytree(CHECKOUT / "k8s" / "striv", tmp_path / "striv")


def images(folder: Path) -> list[str]:
    """Return every image of what kustomize builds, however deep."""

    def collect(thing: Object | list[Object] | str) -> list[str]:
        if isinstance(thing, dict):
            own = [str(value) for key, value in thing.items() if key == "image"]
            return own + [image for value in thing.values() for image in collect(value)]
        if isinstance(thing, list):
            return [image for value in thing for image in collect(value)]
        return []

    return collect(list(yaml.safe_load_all(kubectl("kustomize", str(folder)))))


def test_a_mirror_replaces_every_image(striv: Path) -> None:
    before = images(striv)
    edit = {"images": [{"name": name, "newName": name.replace("docker.io", "mirror.example")} for name in NAMES]}
    with (striv / "kustomization.yaml").open("a") as file:
        yaml.safe_dump(edit, file)

    after = images(striv)

    assert len(before) == len(after) > 15
    assert after == [image.replace("docker.io", "mirror.example") for image in before]


def test_tags_are_pinned_to_the_digests_that_the_registry_names(striv: Path, tmp_path: Path) -> None:
    crane = tmp_path / "bin" / "crane"
    crane.parent.mkdir()
    crane.write_text(FAKE_CRANE)
    crane.chmod(0o755)
    environment = {**os.environ, "PATH": f"{crane.parent}:{os.environ['PATH']}"}

    pinned = subprocess.run([striv / "pin-digests.sh"], env=environment, check=True, capture_output=True, text=True)
    with (striv / "kustomization.yaml").open("a") as file:
        file.write(pinned.stdout)

    after = images(striv)
    assert {image.split("@")[0] for image in after} == set(NAMES)
    assert all("@sha256:" in image for image in after)
