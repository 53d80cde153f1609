"""The edits of k8s/striv that docs/pipeline.md names do what it says, also together: mirrors, digests, a narrower network."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane

pytestmark = pytest.mark.controlplane

ROOT = Path(__file__).resolve().parents[2]
STRIV = ROOT / "k8s" / "striv"
NAMES = [
    "docker.io/library/mysql",
    "docker.io/library/node",
    "docker.io/library/postgres",
    "docker.io/library/python",
]
MIRRORS = [{"name": name, "newName": name.replace("docker.io", "mirror.example")} for name in NAMES]
FAKE_CRANE = """#!/bin/sh
# What the real one prints: the digest, here made of the name.
echo "sha256:$(printf %s "$2" | sha256sum | cut -d' ' -f1)"
"""


class Pipeline:
    """A copy of k8s/striv to edit, with kubectl and a registry that knows every image."""

    def __init__(self, folder: Path, kubectl: Path) -> None:
        self.folder = shutil.copytree(STRIV, folder / "striv")
        self.pinned = folder / "striv-pinned"
        self.kubectl = kubectl
        programs = folder / "bin"
        programs.mkdir()
        self.crane = programs / "crane"
        self.crane.write_text(FAKE_CRANE)
        self.crane.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{kubectl.parent}:{os.environ['PATH']}"}

    def mirror(self, folder: Path | None = None) -> None:
        """Do what docs/pipeline.md, Mirrors, says."""
        with ((folder or self.folder) / "kustomization.yaml").open("a") as file:
            yaml.safe_dump({"images": MIRRORS}, file)

    def pin(self, *arguments: Path) -> subprocess.CompletedProcess[str]:
        """Do what docs/pipeline.md, Digests, says."""
        command = [self.folder / "pin-digests.sh", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def images(self, folder: Path) -> list[str]:
        """Return every image of what kustomize builds, however deep."""

        def collect(thing: Any) -> list[str]:
            if isinstance(thing, dict):
                own = [str(value) for key, value in thing.items() if key == "image"]
                return own + [image for value in thing.values() for image in collect(value)]
            if isinstance(thing, list):
                return [image for value in thing for image in collect(value)]
            return []

        return collect(self.build(folder))

    def build(self, folder: Path) -> list[dict[str, Any]]:
        """Return the objects that kustomize makes of a folder."""
        command = [str(self.kubectl), "kustomize", str(folder)]
        return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


@pytest.fixture
def striv(control_plane: ControlPlane, tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path, control_plane.programs["kubectl"])


def test_a_mirror_replaces_every_image(striv: Pipeline) -> None:
    before = striv.images(striv.folder)

    striv.mirror()

    after = striv.images(striv.folder)
    assert len(before) == len(after) > 15
    assert after == [image.replace("docker.io", "mirror.example") for image in before]


def test_tags_are_pinned_to_the_digests_that_the_registry_names(striv: Pipeline) -> None:
    before = striv.images(striv.folder)

    assert striv.pin().returncode == 0

    after = striv.images(striv.pinned)
    assert len(after) == len(before)
    assert {image.split("@")[0] for image in after} == set(NAMES)
    assert all("@sha256:" in image for image in after)
    assert striv.images(striv.folder) == before


def test_what_comes_from_a_mirror_is_pinned_there(striv: Pipeline) -> None:
    striv.mirror()

    assert striv.pin().returncode == 0

    after = striv.images(striv.pinned)
    assert {image.split("@sha256:")[0] for image in after} == {mirror["newName"] for mirror in MIRRORS}
    assert all("@sha256:" in image for image in after)


def test_an_overlay_with_mirrors_is_pinned_beside_itself(striv: Pipeline, tmp_path: Path) -> None:
    overlay = tmp_path / "ours"
    overlay.mkdir()
    shutil.copy(striv.folder / "images-in-tasks.yaml", overlay)
    kustomization = {"resources": ["../striv"], "configurations": ["images-in-tasks.yaml"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    striv.mirror(overlay)

    assert striv.pin(overlay).returncode == 0

    after = striv.images(tmp_path / "ours-pinned")
    assert all(image.startswith("mirror.example/library/") and "@sha256:" in image for image in after)
    assert not striv.pinned.exists()


def test_pinning_again_takes_the_tags_of_now(striv: Pipeline) -> None:
    striv.pin()
    before = set(striv.images(striv.pinned))
    databases = striv.folder / "databases.yaml"
    databases.write_text(databases.read_text().replace("mysql:8.4.7", "mysql:8.4.8"))

    assert striv.pin().returncode == 0

    assert {image.split("@")[0] for image in before ^ set(striv.images(striv.pinned))} == {"docker.io/library/mysql"}


def test_one_name_with_two_tags_is_not_pinned_to_the_digest_of_either(striv: Pipeline) -> None:
    task = striv.folder / "tasks" / "test-frontend.yaml"
    task.write_text(task.read_text().replace("node:18.20.8-bookworm", "node:20.19.0-bookworm"))

    done = striv.pin()

    assert done.returncode == 1
    assert "docker.io/library/node has two tags" in done.stderr
    assert not striv.pinned.exists()


@pytest.mark.parametrize("program", ["crane", "kubectl"])
def test_nothing_is_written_when_a_program_fails(program: str, striv: Pipeline) -> None:
    broken = striv.crane.with_name(program)
    broken.write_text("#!/bin/sh\necho unreachable >&2\nexit 1\n")
    broken.chmod(0o755)

    done = striv.pin()

    assert done.returncode != 0
    assert "unreachable" in done.stderr
    assert not striv.pinned.exists()


def test_what_is_pinned_is_not_pinned_again(striv: Pipeline) -> None:
    striv.pin()

    done = striv.pin(striv.pinned)

    assert done.returncode == 1
    assert "is pinned already" in done.stderr


def test_the_documented_patch_leaves_the_deployer_the_api_server_alone(striv: Pipeline) -> None:
    (patch,) = re.findall(r"```yaml\n(patches:.*?)```", (ROOT / "docs" / "pipeline.md").read_text(), re.DOTALL)
    with (striv.folder / "kustomization.yaml").open("a") as file:
        file.write(patch)

    (policy,) = [
        each["spec"] for each in striv.build(striv.folder) if each["metadata"]["name"] == "deployer-to-api-server"
    ]

    (rule,) = policy["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.96.0.1/32"}}, {"ipBlock": {"cidr": "192.0.2.10/32"}}]
    assert {port["port"] for port in rule["ports"]} == {443, 6443}
