"""Dependencies are installed once, and no branch can slip another one anything."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import MINIATURE, Repository
from tests.e2e.support.runs import CORE, TEKTON, Run, Runs
from tests.e2e.support.work import scope_of_cache

pytestmark = pytest.mark.e2e_full

REPOSITORY_ID = "1"
WARM_SECONDS = 60
"""Generous, because clusters for tests are small; docs/pipeline.md has measured figures."""
SOURCE = "/workspace/striv-workspace/source"
# Less than an archive may have, and enough to be stopped while it is stored.
WRITE_BALLAST = """
const fs = require('fs')
fs.writeFileSync('node_modules/ballast', '')
fs.truncateSync('node_modules/ballast', 900e6)
"""
# Runs the step that writes to the cache, and once, where there is ballast, stops it in the middle for good.
HOLD = f"""
import glob, os, pathlib, signal, subprocess, sys, time
saving = subprocess.Popen([sys.executable, "-I", *sys.argv[1:]], start_new_session=True)
held = pathlib.Path("{SOURCE}").parent / "held"
if pathlib.Path("{SOURCE}/node_modules/ballast").exists() and not held.exists():
    held.touch()
    while not glob.glob(f"/striv/cache/node_modules-*.{{os.uname().nodename}}.partial"):
        time.sleep(0.001)
    os.killpg(saving.pid, signal.SIGSTOP)
sys.exit(saving.wait())
"""

# An evil branch's program, which looks for the cache everywhere and for a place in it where it could write. What it has
# seen, and that it ran, is told by its tests, which are what it left for them.
LOOK = f"""
import json, pathlib, subprocess

def find(*arguments):
    return subprocess.run(["find", "/", *arguments], capture_output=True, text=True, check=False).stdout.split()

home = ["-path", "/proc", "-prune", "-o", "-path", "/striv/home", "-prune", "-o"]
seen = {{
    "found": find("-path", "/proc", "-prune", "-o", "-name", "*.tar", "-print"),
    "writable": find(*home, "-path", "/striv/*cache*", "-writable", "-print"),
    "cache": pathlib.Path("/striv/cache").exists(),
}}
pathlib.Path("{SOURCE}/seen.json").write_text(json.dumps(seen))
"""
NOTHING_SEEN = {"found": [], "writable": [], "cache": False}
POISON_JS = """#!/usr/bin/env node
const fs = require('fs')
if (fs.existsSync('seen.json')) console.log('EVIL ' + fs.readFileSync('seen.json'))
console.log('  99 passing (poisoned)')
process.exit(0)
"""
POISON_PY = """
import pathlib

def pytest_cmdline_main():
    if pathlib.Path("seen.json").exists():
        print("EVIL " + pathlib.Path("seen.json").read_text())
    print("99 passed (poisoned)")
    return 0
"""
# The git of .npmrc: it fetches from a repository that it makes up.
GIT = """#!/bin/sh
set -eu
{evil}
if [ ! -d "$HOME/dependency" ]; then
  mkdir "$HOME/dependency"
  cp {source}/dependency.js "$HOME/dependency/index.js"
  echo '{{"name": "dependency", "version": "1.0.0"}}' > "$HOME/dependency/package.json"
  git -C "$HOME/dependency" init --quiet --initial-branch=main
  git -C "$HOME/dependency" add --all
  git -C "$HOME/dependency" -c user.name=A -c user.email=a@example.com commit --quiet --message=All
fi
exec git -c url."$HOME/dependency".insteadOf={url} "$@"
"""
GIT_URL = "https://git.example/dependency.git"
SETUP = """
import setuptools
{evil}
setuptools.setup(
    name="dependency",
    version="1.0.0",
    py_modules=["dependency"],
    entry_points={{"pytest11": ["dependency = dependency"]}},
)
"""


def lifecycle_scripts(mark: str, *, evil: bool) -> dict[str, str]:
    """Have npm run what package.json names; it replaces the program that runs the tests."""
    package = json.loads((MINIATURE / "common" / "package.json").read_text())
    package["description"] = mark
    package["scripts"] |= {"preinstall": "python3 look.py", "postinstall": "node postinstall.js"}
    replace = f"require('fs').writeFileSync('node_modules/mocha/bin/mocha.js', {json.dumps(POISON_JS)})"
    return {
        "package.json": json.dumps(package),
        "look.py": LOOK if evil else "",
        "postinstall.js": replace if evil else "",
    }


def git_of_npmrc(mark: str, *, evil: bool) -> dict[str, str]:
    """Have npm run the git that .npmrc names, whatever it thinks of scripts; it chooses what a dependency contains."""
    package = json.loads((MINIATURE / "common" / "package.json").read_text())
    package["description"] = mark
    package["devDependencies"]["dependency"] = f"git+{GIT_URL}#main"
    lock = json.loads((MINIATURE / "common" / "package-lock.json").read_text())
    version = {"version": f"git+{GIT_URL}#main", "from": f"git+{GIT_URL}#main", "dev": True}
    lock["dependencies"]["dependency"] = version
    return {
        "package.json": json.dumps(package),
        "package-lock.json": json.dumps(lock),
        ".npmrc": f"git={SOURCE}/git\nignore-scripts=true\n",
        "git": GIT.format(source=SOURCE, url=GIT_URL, evil=f"python3 {SOURCE}/look.py" if evil else ""),
        "look.py": LOOK if evil else "",
        "dependency.js": POISON_JS if evil else "",
        "tests/unit/dependency.spec.js": "require('dependency')",
    }


def local_requirement(mark: str, *, evil: bool) -> dict[str, str]:
    """Have pip run the setup.py of a package in the commit; it becomes a plugin of pytest."""
    return {
        "requirements-dev.txt": f"-r requirements.txt\npytest\n./dependency\n# {mark}\n",
        "dependency/setup.py": SETUP.format(evil=f'import runpy; runpy.run_path("{SOURCE}/look.py")' if evil else ""),
        "dependency/dependency.py": POISON_PY if evil else "",
        "look.py": LOOK if evil else "",
    }


@dataclass(frozen=True)
class Way:
    """How a branch comes to run programs where its dependencies are installed, and which tests use what they leave."""

    files: Callable[..., dict[str, str]]
    """For a mark, equal key files, which nobody has installed yet; with scripts that are evil or do nothing."""
    kind: str
    installs: str
    tests: str
    failing: dict[str, str]
    """A test that truly fails."""
    failed: str
    """What the tests say of it."""


def of_npm(files: Callable[..., dict[str, str]]) -> Way:
    """Return a way in which npm runs a branch's programs."""
    broken = "describe('broken', () => { it('fails', () => { throw new Error('truly') }) })"
    return Way(
        files=files,
        kind="node_modules",
        installs="install-frontend-dependencies",
        tests="test-frontend",
        failing={"tests/unit/failing.spec.js": broken},
        failed="1 failing",
    )


WAYS = {
    "lifecycle scripts": of_npm(lifecycle_scripts),
    "the git of .npmrc": of_npm(git_of_npmrc),
    "setup.py": Way(
        files=local_requirement,
        kind="venv",
        installs="install-backend-dependencies",
        tests="test-backend",
        failing={"test/test_failing.py": "def test_fails():\n    raise AssertionError\n"},
        failed="1 failed",
    ),
}


def took_from(run: Run, scope: Run, kind: str) -> bool:
    """Whether a run found this in the folder of the cache that the other run may write."""
    return f"/striv/cache/{scope.result('checkout', 'cache-scope')}/{kind}-" in run.log("checkout", "restore")


def took_nothing(run: Run, kind: str) -> bool:
    """Whether a run found nothing of this kind in the cache."""
    return f"cache: nothing for {kind}" in run.log("checkout", "restore")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_evil_branch_poisons_nobody_but_itself(way: Way, runs: Runs, repository: Repository) -> None:
    mark = str(uuid.uuid4())

    def push(branch: str, *, to: str = REPOSITORY_ID, name: str = "", evil: bool = False, failing: bool = False) -> Run:
        files = way.files(mark, evil=evil) | (way.failing if failing else {})
        commit = repository.push_commit(branch, files=files)
        run = runs.start(revision=commit, branch=name or branch, repository_id=to)
        run.finish()
        return run

    evil = push("evil", evil=True, failing=True)
    assert "cache: stored" in evil.log(way.installs, "save")
    poisoned = evil.log(way.tests, "test")
    assert "99 pass" in poisoned, "the poison must work, or this test says nothing"
    assert json.loads(poisoned.split("EVIL ")[1].splitlines()[0]) == NOTHING_SEEN

    # The same key: the protected branch, and another one.
    master = push("master", failing=True)
    assert took_nothing(master, way.kind)
    assert master.failed_tasks() == {way.tests: "StepFailed"}
    assert way.failed in master.log(way.tests, "test")

    innocent = push("innocent")
    assert took_from(innocent, master, way.kind)
    assert innocent.frontend_passed() == 2
    assert innocent.backend_report()["mysql"]["passed"] == 4

    # Another repository's branch of the protected name, such as a fork's, is another scope as well.
    fork = push("fork", name="master", to="2")
    assert took_nothing(fork, way.kind)
    assert fork.condition()["status"] == "True"

    again = push("evil", evil=True, failing=True)
    assert took_from(again, again, way.kind)
    assert "99 pass" in again.log(way.tests, "test")


def test_a_warm_run_installs_nothing(runs: Runs, repository: Repository) -> None:
    mark = str(uuid.uuid4())
    files = lifecycle_scripts(mark, evil=False) | local_requirement(mark, evil=False)
    commit = repository.push_commit("warm", files=files)
    runs.start(revision=commit, branch="warm", repository_id=REPOSITORY_ID).expect("True")

    warm = runs.start(revision=commit, branch="warm", repository_id=REPOSITORY_ID)
    warm.expect("True")

    assert all(took_from(warm, warm, kind) for kind in ("node_modules", "venv"))
    assert not {"install-frontend-dependencies", "install-backend-dependencies"} & set(warm.taskruns())
    assert warm.backend_report()["mysql"]["passed"] == 4
    assert warm.duration_seconds() < WARM_SECONDS


def test_a_run_without_a_branch_keeps_nothing(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("unnamed", files=lifecycle_scripts(str(uuid.uuid4()), evil=False))
    first = runs.start(revision=commit)
    first.expect("True")

    second = runs.start(revision=commit)
    second.expect("True")

    assert first.result("checkout", "cache-scope") == f"run-{first.uid}"
    assert took_nothing(second, "node_modules")


def hold_half_written(task: Object) -> None:
    """Have the run with the ballast stop while it writes to the cache, until it is killed."""
    (save,) = [step for step in task["spec"]["steps"] if step["name"] == "save"]
    python, *script = save["command"]
    save["command"] = [python, "-I", "-c", HOLD, *(part for part in script if part != "-I")]


def test_five_runs_at_once_of_which_one_is_killed_while_it_writes_leave_a_sound_cache(
    cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    files = lifecycle_scripts(str(uuid.uuid4()), evil=False)
    # Not in the key: the victim writes the same archive as the others.
    heavy = repository.push_commit("five", files=files | {"postinstall.js": WRITE_BALLAST})
    light = repository.push_commit("five", files=files)

    def half_written(pod: str) -> list[str]:
        scope = scope_of_cache(str(victim.result("checkout", "cache-scope")))
        return [name for name in scope if name.startswith("node_modules-") and name.endswith(f".{pod}.partial")]

    with cluster.changed(f"{TEKTON}/tasks/install-frontend-dependencies", hold_half_written):
        victim = runs.start(revision=heavy, branch="five", repository_id=REPOSITORY_ID)
        others = [runs.start(revision=light, branch="five", repository_id=REPOSITORY_ID) for _ in range(4)]
        victim.wait_for_task("install-frontend-dependencies", seconds=300)
        pod = str(victim.taskruns()["install-frontend-dependencies"]["status"]["podName"])
        eventually(lambda: half_written(pod), what="the victim writes its archive", seconds=300, every=0.1)
        killed = cluster.call("GET", f"{CORE}/pods/{pod}")["metadata"]["uid"]
        cluster.call("DELETE", f"{CORE}/pods/{pod}", query={"gracePeriodSeconds": "0"})
        for run in (victim, *others):
            run.expect("True", seconds=900)

    # What was stopped could not finish: Tekton made the pod anew, under its name, and that one wrote over what was half there.
    assert cluster.call("GET", f"{CORE}/pods/{pod}")["metadata"]["uid"] != killed
    assert not half_written(pod)
    last = runs.start(revision=light, branch="five", repository_id=REPOSITORY_ID)
    last.expect("True")
    assert took_from(last, last, "node_modules")
    assert not took_nothing(last, "venv")
    assert last.frontend_passed() == 2
