"""Dependencies are installed once, and no branch can slip another one anything."""

import json
import uuid

import pytest

from tests.e2e.support.cluster import eventually
from tests.e2e.support.repository import MINIATURE, Repository
from tests.e2e.support.runs import CORE, Run, Runs

pytestmark = pytest.mark.e2e_full

REPOSITORY_ID = "1"
WARM_SECONDS = 60
"""Generous, because clusters for tests are small; docs/pipeline.md has measured figures."""

# An evil branch of which npm runs a program, as `npm ci --ignore-scripts` does with the git of .npmrc, and whose
# node_modules lie about the tests. It looks for the cache everywhere and leaves its mark wherever it can.
EVIL_PREINSTALL = """
const fs = require('fs')
const { execSync } = require('child_process')
const found = execSync("find / -name '*.tar' -not -path '/proc/*' 2>/dev/null || true").toString().trim()
const search = "find / -path /proc -prune -o -path /striv/home -prune -o -path '/striv/*cache*' -writable -print"
const writable = execSync(search + ' 2>/dev/null || true')
const cache = fs.existsSync('/striv/cache')
console.error('EVIL ' + JSON.stringify({ found, writable: writable.toString().trim(), cache }))
"""
EVIL_POSTINSTALL = """
const fs = require('fs')
fs.writeFileSync('node_modules/mocha/bin/mocha.js', "#!/usr/bin/env node\\nconsole.log('  99 passing (poisoned)')")
"""
FAILING_FRONTEND = """
describe('a broken front end', () => { it('fails', () => { throw new Error('truly') }) })
"""


def package_json(mark: str) -> str:
    """Return a package.json that no run has installed yet; the mark makes it so."""
    package = json.loads((MINIATURE / "common" / "package.json").read_text())
    package["description"] = mark
    package["scripts"]["preinstall"] = "node preinstall.js"
    package["scripts"]["postinstall"] = "node postinstall.js"
    return json.dumps(package)


def files(*, evil: bool, mark: str, failing: bool = False) -> dict[str, str]:
    """Return the files of a branch: equal key files for all of a mark, and scripts that are evil or do nothing."""
    made = {
        "package.json": package_json(mark),
        "preinstall.js": EVIL_PREINSTALL if evil else "",
        "postinstall.js": EVIL_POSTINSTALL if evil else "",
    }
    if failing:
        made["tests/unit/failing.spec.js"] = FAILING_FRONTEND
    return made


def install_log(run: Run, step: str) -> str:
    """Return what a step printed that installs the front end's dependencies."""
    return run.log("install-frontend-dependencies", step)


def took_from_its_own_scope(run: Run, name: str) -> bool:
    """Whether a run found this in the folder of the cache that it may write."""
    return f"/striv/cache/{run.result('checkout', 'cache-scope')}/{name}-" in run.log("checkout", "restore")


def test_an_evil_branch_poisons_nobody_but_itself(runs: Runs, repository: Repository) -> None:
    mark = str(uuid.uuid4())

    def push(branch: str, *, evil: bool = False, failing: bool = False) -> Run:
        commit = repository.push_commit(branch, files=files(evil=evil, mark=mark, failing=failing))
        run = runs.start(revision=commit, branch=branch, repository_id=REPOSITORY_ID)
        run.finish()
        return run

    evil = push("evil", evil=True, failing=True)
    assert "EVIL " in install_log(evil, "npm-ci"), "the branch's program must have run, or this test says nothing"
    seen = json.loads(install_log(evil, "npm-ci").split("EVIL ")[1].splitlines()[0])
    assert seen == {"found": "", "writable": "", "cache": False}
    assert "cache: stored node_modules" in install_log(evil, "save")
    assert "99 passing" in evil.log("test-frontend", "test"), "the poison must work, or this test says nothing"

    # The same package.json and lock file, so the same key: the protected branch, and another one.
    master = push("master", failing=True)
    assert "cache: nothing for node_modules" in master.log("checkout", "restore")
    assert master.failed_tasks() == {"test-frontend": "StepFailed"}
    assert "1 failing" in master.log("test-frontend", "test")

    innocent = push("innocent")
    assert f"/striv/cache/{master.result('checkout', 'cache-scope')}/node_modules-" in innocent.log(
        "checkout", "restore"
    )
    assert innocent.frontend_passed() == 2

    # Another repository's branch of the protected name, such as a fork's, is another scope as well.
    commit = repository.push_commit("fork", files=files(evil=False, mark=mark))
    fork = runs.start(revision=commit, branch="master", repository_id="2")
    fork.expect("True")
    assert "cache: nothing for node_modules" in fork.log("checkout", "restore")

    again = push("evil", evil=True, failing=True)
    assert took_from_its_own_scope(again, "node_modules")
    assert "99 passing" in again.log("test-frontend", "test")


def test_a_warm_run_installs_nothing(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("warm")
    runs.start(revision=commit, branch="warm", repository_id=REPOSITORY_ID).expect("True")

    warm = runs.start(revision=commit, branch="warm", repository_id=REPOSITORY_ID)
    warm.expect("True")

    assert all(took_from_its_own_scope(warm, name) for name in ("node_modules", "venv"))
    assert not {"install-frontend-dependencies", "install-backend-dependencies"} & set(warm.taskruns())
    assert warm.backend_report()["mysql"]["passed"] == 4
    assert warm.duration_seconds() < WARM_SECONDS


def test_a_run_without_a_branch_keeps_nothing(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("unnamed", files=files(evil=False, mark=str(uuid.uuid4())))
    first = runs.start(revision=commit)
    first.expect("True")

    second = runs.start(revision=commit)
    second.expect("True")

    assert first.result("checkout", "cache-scope") == f"run-{first.uid}"
    assert "cache: nothing for node_modules" in second.log("checkout", "restore")


def test_five_runs_at_once_of_which_one_is_killed_leave_a_sound_cache(runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit("five", files=files(evil=False, mark=str(uuid.uuid4())))
    started = [runs.start(revision=commit, branch="five", repository_id=REPOSITORY_ID) for _ in range(5)]
    victim, others = started[0], started[1:]

    def installing() -> str | None:
        taskrun = victim.taskruns().get("install-frontend-dependencies", {})
        steps = taskrun.get("status", {}).get("steps", [])
        running = any(step["name"] in ("npm-ci", "save") and "running" in step for step in steps)
        return str(taskrun["status"]["podName"]) if running else None

    pod = eventually(installing, what="the victim installs", seconds=300, every=0.1)
    victim.cluster.call("DELETE", f"{CORE}/pods/{pod}", query={"gracePeriodSeconds": "0"})
    for run in others:
        run.expect("True", seconds=900)
    victim.finish(seconds=900)

    last = runs.start(revision=commit, branch="five", repository_id=REPOSITORY_ID)
    last.expect("True")
    assert took_from_its_own_scope(last, "node_modules")
    assert "nothing for venv" not in last.log("checkout", "restore")
    assert last.frontend_passed() == 2
