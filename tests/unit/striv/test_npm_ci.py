"""What installs the front end's dependencies: npm calls an installation good that is not."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.scripts import SCRIPTS

# npm 10.8.2's own words, for a registry that hung up three times; it ended with 0, and node_modules/.bin had no mocha.
HALF = """npm warn old lockfile Could not fetch metadata for mocha@10.8.2 FetchError: request to https://registry.example failed
added 71 packages in 10s"""


@pytest.fixture
def npm_ci(tmp_path: Path) -> "NpmCi":
    return NpmCi(tmp_path)


class NpmCi:
    """The script with an npm that says and does what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "home", "source"):
            (folder / name).mkdir()

    def run(self, npm: str) -> subprocess.CompletedProcess[str]:
        """Run the script; `npm` is the shell script that stands for npm."""
        program = self.folder / "bin/npm"
        program.write_text(f"#!/bin/sh\n{npm}\n")
        program.chmod(0o755)
        variables = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "SOURCE": str(self.folder / "source"),
        }
        command = ["sh", str(SCRIPTS / "npm_ci.sh")]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=20, cwd="/")


def test_dependencies_are_installed_in_the_source_and_npm_is_heard(npm_ci: NpmCi) -> None:
    done = npm_ci.run('echo "$*" in "$PWD"; echo a warning >&2')

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ci --no-audit --no-fund in {npm_ci.folder}/source\na warning\n"


def test_an_installation_that_failed_fails_the_step_as_npm_did(npm_ci: NpmCi) -> None:
    done = npm_ci.run("echo npm error code ERESOLVE >&2; exit 7")

    assert done.returncode == 7
    assert done.stdout == "npm error code ERESOLVE\n"


def test_an_installation_without_the_programs_of_a_package_fails_though_npm_calls_it_good(npm_ci: NpmCi) -> None:
    done = npm_ci.run(f"cat <<'SAID'\n{HALF}\nSAID")

    assert done.returncode == 1
    assert done.stdout == HALF + "\n"
    assert "programs may be missing" in done.stderr


def test_a_process_that_an_install_script_leaves_behind_holds_nothing_up(npm_ci: NpmCi) -> None:
    done = npm_ci.run("sleep 1000 & echo $! > pid; echo added")

    try:
        assert done.returncode == 0, done.stderr
        assert done.stdout == "added\n"
    finally:
        os.kill(int((npm_ci.folder / "source/pid").read_text()), 9)
