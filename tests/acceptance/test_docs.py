"""The documents tell the truth: every command in README is run, every command elsewhere exists, every link leads somewhere.

What docs/install.md tells a cluster is run by tests/e2e_receiver; tests/unit/test_guide.py says what of it cannot be.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import pytest
import yaml

from receiver.cli.main import receiver
from tests.controlplane import programs
from tests.controlplane.cluster import ControlPlane
from tests.support.documents import DOCUMENTS, blocks, script_lines, scripts, snippets
from tests.support.planes import ROOT, Planes
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid

SHELL_COMMANDS = ("kubectl", "docker", "make", "receiver", "psql", "sed", "cp", "curl")
MADE_BY_USERS = ("k8s/overlays/mine", "k8s/striv-pinned", "config/secrets")


def commands(document: Path, *programs_: str) -> list[str]:
    """The code in a document that begins with one of these programs, perhaps after variables or in a container."""
    return commands_among([*snippets(document), *script_lines(document)], *programs_)


def commands_among(lines: Iterable[str], *programs_: str) -> list[str]:
    beginning = re.compile(rf"(?:.* -- )?((?:[A-Z_]+=\S+ )*(?:{'|'.join(programs_)})(?: .*|$))")
    found = [match[1] for line in lines if (match := beginning.match(line))]
    return [command.split("  #")[0].strip() for command in found]


def runs_to_its_end(command: str, *, env: dict[str, str], says: str = "") -> None:
    done = subprocess.run(  # noqa: S602 - commands run as they are written
        command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert says in done.stdout + done.stderr


@pytest.mark.controlplane
@pytest.mark.acceptance
def test_every_command_in_readme_is_run(control_plane: ControlPlane, planes: Planes) -> None:
    """What cannot be run as it stands, `make test` itself, is at least what make would run."""
    planes.start()
    assert planes.push(encoded(seeded_push()), new_guid()).status_code == 202
    (planes.folder / "push.json").write_bytes(encoded(seeded_push(branch="kubernetes")))
    environment = {**planes.environment, "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"}
    here = {"cwd": str(planes.folder)}
    kubeconfig = str(control_plane.kubeconfig)

    def demo(command: str) -> None:
        assert programs.find() is not None
        runs_to_its_end(command, env={**os.environ, "CI": ""}, says="Everything was stopped and removed")

    def elsewhere(command: str) -> None:
        runs_to_its_end(command.replace("~/.kube/config", kubeconfig), env=dict(os.environ), says="Done in")

    def only_shown(command: str) -> None:
        runs_to_its_end(f"{command} --dry-run".replace("make ", "make --no-print-directory "), env=dict(os.environ))

    def in_folder(command: str) -> None:
        command = command.replace("http://127.0.0.1:8000/webhook", planes.url).replace("config/secrets", "secrets")
        runs_to_its_end(f"cd {shlex.quote(here['cwd'])} && {command}", env=environment)

    def starts(command: str) -> None:
        # Both planes run from this very configuration already; `make demo` starts it in earnest.
        runs_to_its_end(f"{command} --help", env=environment)

    how: dict[str, Callable[[str], None]] = {
        "make demo": demo,
        "make demo KEEP=1": only_shown,
        "DEMO_KUBECONFIG=~/.kube/config make demo": elsewhere,
        "make test": only_shown,
        "make help": in_project,
        "receiver run": starts,
        "receiver serve": starts,
        "receiver work": starts,
        "receiver check": applied_first(control_plane, planes, in_folder),
        "receiver check --cluster": applied_first(control_plane, planes, in_folder),
        "receiver explain push.json": in_folder,
        "receiver deliveries list": in_folder,
        "receiver send push.json --url http://127.0.0.1:8000/webhook --secret-file config/secrets/github": in_folder,
    }
    written = commands(ROOT / "README.md", "make", "receiver")
    assert set(written) == set(how), "README and this test have to name the same commands"
    for command in dict.fromkeys(written):
        how[command](command)


def in_project(command: str) -> None:
    runs_to_its_end(command, env=dict(os.environ))


def applied_first(plane: ControlPlane, planes: Planes, then: Callable[[str], None]) -> Callable[[str], None]:
    """`receiver check` needs the Pipeline where the runs go."""

    def apply_and_check(command: str) -> None:
        kubectl = str(plane.programs["kubectl"])
        environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
        apply = f"{kubectl} kustomize k8s/striv | {kubectl} apply --server-side -f -"
        runs_to_its_end(apply, env=environment)
        planes.environment["RECEIVER__CLUSTER__NAMESPACE"] = "striv-ci"
        then(f"RECEIVER__CLUSTER__NAMESPACE=striv-ci {command}")

    return apply_and_check


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_receiver_command_in_the_documents_exists(document: Path) -> None:
    for written in commands(document, "receiver"):
        command: click.Command = receiver
        words = shlex.split(written.replace("…", "")) if "'" not in written else written.split()
        words = words[1 : words.index(">")] if ">" in words else words[1:]
        while words and isinstance(command, click.Group):
            found = command.commands.get(words.pop(0))
            assert found is not None, f"{document.name}: `{written}` is no command"
            command = found
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in known]
        assert unknown == [], f"{document.name}: `{written}` has options that do not exist"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_script_and_command_in_the_documents_can_be_parsed(document: Path) -> None:
    written_so = commands_among(snippets(document), *SHELL_COMMANDS)
    for written in [*(script.text for script in scripts(document)), *written_so]:
        done = subprocess.run(["bash", "-n"], input=written, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{document.name}: {written}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_block_of_commands_is_marked_as_one(document: Path) -> None:
    """An unmarked block is checked by nobody."""
    unmarked = [block.text for block in blocks(document) if not block.language]
    beginnings = (*(f"{program} " for program in SHELL_COMMANDS), "k8s/")
    assert [text for text in unmarked if text.startswith(beginnings)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_manifest_in_the_documents_is_yaml(document: Path) -> None:
    for block in blocks(document):
        if block.language == "yaml":
            assert list(yaml.safe_load_all(block.text)), f"{document.name}: {block.text}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_path_that_the_documents_name_exists(document: Path) -> None:
    folders = r"(?:k8s|config|docs|tests|receiver|bench|\.ci)"
    named = re.findall(rf"(?<![\w/.-]){folders}/[\w./-]+", document.read_text())
    missing = {path for path in named if not path.startswith(MADE_BY_USERS) and not (ROOT / path.rstrip("./")).exists()}
    assert missing == set(), document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_make_target_in_the_documents_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for written in commands(document, "make"):
        asked = [word for word in written.split() if "=" not in word and "'" not in word][1:]
        assert set(asked) <= targets, f"{document.name}: `{written}`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_between_the_documents_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize(
    "setting", sorted(set(re.findall(r"^  ([a-z_]+):", (ROOT / "config/receiver.yaml").read_text(), re.MULTILINE)))
)
def test_every_setting_of_the_example_is_in_the_documentation(setting: str) -> None:
    assert re.search(rf"\b{setting}\b", (ROOT / "docs/configuration.md").read_text())
