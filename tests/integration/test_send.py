"""`receiver send` against the real front, and what it prints for curl, in a real shell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.public import CHECKOUT, FrontPlane
from tests.support.pushes import encoded, push_payload
from tests.support.signing import SECRET, new_guid


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A payload whose name a shell would take apart, and the secret."""
    payload, secret = tmp_path / "it's a push $(x).json", tmp_path / "secret"
    payload.write_bytes(encoded(push_payload(message="ünï — 🚀")))
    secret.write_text(SECRET + "\n", encoding="utf-8")
    return payload, secret


def send(plane: FrontPlane, files: tuple[Path, Path], *options: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{plane.port}/webhook"
    command = [sys.executable, "-m", "receiver", "send", str(files[0]), "--url", url, "--secret-file", str(files[1])]
    return subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


def test_a_sent_push_is_accepted_and_a_forged_one_ends_with_3(
    front_plane: FrontPlane, files: tuple[Path, Path]
) -> None:
    guid = new_guid()
    done = send(front_plane, files, "--delivery", guid)
    assert (done.returncode, done.stderr) == (0, "202 Accepted\n")
    assert json.loads(done.stdout)["delivery"] == guid
    assert front_plane.journal.delivery(guid).result == "accepted"
    files[1].write_text("guessed", encoding="utf-8")
    refused = send(front_plane, files)
    assert (refused.returncode, refused.stderr) == (3, "401 Unauthorized\n")


@pytest.mark.parametrize("padding", [0, 2**21])
def test_the_printed_curl_command_does_the_same_in_a_shell(
    front_plane: FrontPlane, files: tuple[Path, Path], padding: int
) -> None:
    # Above a megabyte curl asks first whether it may go on (Expect: 100-continue).
    files[0].write_bytes(files[0].read_bytes() + b" " * padding)
    guid = new_guid()
    printed = send(front_plane, files, "--curl", "--delivery", guid)
    assert printed.returncode == 0
    done = subprocess.run(printed.stdout, shell=True, capture_output=True, text=True, timeout=60, check=True)  # noqa: S602 - what is printed is for a shell
    assert re.search(r"^HTTP/1\.1 202 ", done.stdout, re.MULTILINE)
    assert json.loads(done.stdout.splitlines()[-1])["delivery"] == guid
