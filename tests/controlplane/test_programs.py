"""Programs are found where users put them, built once, and a missing Go is explained."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.controlplane import programs
from tests.controlplane.manifests import PATTERNS
from tests.controlplane.programs import ProgramsError
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

FAKE_GO = """\
import os, pathlib, sys
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
with (here / "calls").open("a") as calls:
    print(arguments[-1], file=calls)
if arguments[0] == "env":
    print({version!r})
elif arguments[0] == "list":
    print(here / "tekton")
elif arguments[0] == "build":
    target = pathlib.Path(arguments[arguments.index("-o") + 1])
    target.write_text("half")
    if {breaks}:
        sys.exit("undefined: everything")
    target.chmod(0o755)
else:
    sys.exit("a Go command that this test does not know: " + " ".join(arguments))
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


def install_go(folder: Path, *, version: str = "go1.26.4", breaks: bool = False) -> None:
    write_program(folder / "go", FAKE_GO.format(version=version, breaks=breaks))
    for pattern in PATTERNS:
        manifest = folder / "tekton" / "config" / pattern.replace("*", "x")
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text('kind: ConfigMap\nmetadata: {name: x}\ndata: {version: "devel"}\n')


def install_kubectl(folder: Path, answer: object) -> None:
    write_program(folder / "kubectl", f"print({json.dumps(answer)!r})")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH, empty, on a machine where nothing was built before."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(programs, "GO_FOLDERS", ())
    return folder


@pytest.mark.usefixtures("tools")
def test_the_cache_folder_names_the_pinned_versions() -> None:
    versions = programs.pinned_versions()

    assert programs.cache_dir().name == (
        f"kubernetes-{versions.kubernetes}_etcd-{versions.etcd}_tekton-{versions.tekton}"
    )


def test_everything_missing_is_built_once_with_progress_shown(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_go(tools)

    first, second = programs.ensure(), programs.ensure()

    assert first == second
    assert first.paths == {name: programs.cache_dir() / "bin" / name for name in programs.BUILDS}
    calls = (tools / "calls").read_text().splitlines()
    assert [call for call in calls if call in {package for _, package in programs.BUILDS.values()}] == [
        package for _, package in programs.BUILDS.values()
    ]
    progress = capsys.readouterr().err
    assert "[controlplane] building 1/6 etcd" in progress
    assert re.search(r"\[controlplane\] built 6/6 kubectl in \d+ s", progress)


def test_tektons_manifests_are_kept_as_a_release_has_them(tools: Path) -> None:
    install_go(tools)

    manifests = json.loads(programs.ensure().tekton_manifests.read_text())

    assert len(manifests) == len(PATTERNS)
    assert {each["data"]["version"] for each in manifests} == {programs.pinned_versions().tekton}


def test_of_two_callers_at_once_one_builds(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_go(tools)
    said = ""

    def both_wait() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return said.count("waiting for it") == 2

    with ThreadPoolExecutor() as pool:
        with programs.exclusive(programs.cache_dir(), busy=""):
            callers = [pool.submit(programs.ensure) for _ in range(2)]
            wait_until(both_wait, what="both callers")
        found = [caller.result() for caller in callers]

    assert found[0] == found[1]
    assert (tools / "calls").read_text().count("go.etcd.io/etcd/server/v3") == 1


def test_a_build_that_fails_shows_gos_words_and_leaves_no_program(tools: Path) -> None:
    install_go(tools, breaks=True)

    with pytest.raises(ProgramsError, match=r"building etcd failed(.|\n)*undefined: everything"):
        programs.ensure()

    assert not (programs.cache_dir() / "bin" / "etcd").exists()
    assert programs.find() is None


@pytest.mark.usefixtures("tools")
def test_a_missing_go_is_explained() -> None:
    with pytest.raises(ProgramsError, match=r"Go is not installed\. .*needs Go 1\.26\.4 or newer: install it from"):
        programs.ensure()


@pytest.mark.parametrize("version", ["go1.20", "go1.26.3", ""])
def test_a_go_that_is_too_old_is_explained(tools: Path, version: str) -> None:
    install_go(tools, version=version)

    with pytest.raises(ProgramsError, match=r"go is too old \(.*\)\. .*needs Go 1\.26\.4 or newer"):
        programs.ensure()


def test_programs_in_kubebuilder_assets_are_taken_and_not_built(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_go(tools)
    assets = tmp_path / "assets"
    for name in ("etcd", "kube-apiserver"):
        write_program(assets / name, "")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))

    found = programs.ensure()

    assert {name for name, path in found.paths.items() if path.parent == assets} == {"etcd", "kube-apiserver"}
    assert "go.etcd.io/etcd/server/v3" not in (tools / "calls").read_text()


GOOD_KUBECTL = {"clientVersion": {"gitVersion": "v1.30.0"}, "kustomizeVersion": "v5.0.4"}


def test_a_true_kubectl_on_path_is_taken(tools: Path) -> None:
    install_go(tools)
    install_kubectl(tools, GOOD_KUBECTL)

    found = programs.ensure()

    assert found["kubectl"] == tools / "kubectl"
    assert found.folder_for_path is None


@pytest.mark.parametrize(
    "answer",
    [
        {"clientVersion": {"gitVersion": "v1.29.9"}, "kustomizeVersion": "v5.0.4"},
        {"clientVersion": {"gitVersion": "v1.36.0"}},
        {"error": "no cluster"},
    ],
    ids=["too old", "no kustomize inside", "another program"],
)
def test_any_other_kubectl_on_path_is_not(tools: Path, answer: object) -> None:
    install_go(tools)
    install_kubectl(tools, answer)

    found = programs.ensure()

    assert found["kubectl"] == programs.cache_dir() / "bin" / "kubectl"
    assert found.folder_for_path == programs.cache_dir() / "bin"


@pytest.mark.parametrize("processes", [(), ("--numprocesses=2",)], ids=["one process", "several"])
@pytest.mark.parametrize(("ci", "outcome", "exit_code"), [("", "1 skipped", 0), ("true", "1 error", 1)])
def test_without_programs_tests_are_skipped_aloud_and_in_ci_they_fail(
    tools: Path, tmp_path: Path, ci: str, outcome: str, exit_code: int, processes: tuple[str, ...]
) -> None:
    install_go(tools, version="go1.20")
    (tmp_path / "test_it.py").write_text("def test_it(control_plane): pass\n")
    plugins = ("tests.support.needs", "tests.controlplane.fixtures", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *(part for plugin in plugins for part in ("-p", plugin))]

    answer = subprocess.run(
        [*command, *processes, "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path / "test_it.py")],
        cwd=ROOT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome in answer.stdout
    assert "too old (go1.20)" in answer.stdout
    assert ("NOT TESTED on a real API server" in answer.stdout) is (not ci)
    assert answer.returncode == exit_code
