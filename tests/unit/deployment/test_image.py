"""What can be said of the Dockerfile without a build."""

import fnmatch
import re

from tests.support.deployment_manifests import CONFIG_FOLDER, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_base_image_has_an_exact_version_and_one_argument_replaces_it() -> None:
    default = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert default
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-bookworm", default[1])
    assert stages == ["${PYTHON_IMAGE}"] * 2


def test_the_image_is_built_from_locked_wheels_and_runs_as_nobody() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]

    assert "--no-deps --require-hashes --only-binary :all:" in DOCKERFILE
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert 'ENTRYPOINT ["receiver"]' in last
    assert f"RECEIVER_CONFIG={CONFIG_FOLDER}/receiver.yaml" in last
    assert not re.search(r"^(ADD|RUN)\b", last, re.MULTILINE)


def test_the_build_sees_only_what_it_copies() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)

    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied)
    assert [line for line in lines[1:] if fnmatch.fnmatch("receiver/__pycache__", line)]
