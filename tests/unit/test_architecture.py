"""The architecture holds: imports go one way, and what is depended on or ignored has its reason written down."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import lacking

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = PROJECT["project"]["dependencies"]
DEVELOPMENT = PROJECT["dependency-groups"]["dev"]
_IGNORED = re.compile(r"#\s*(noqa|type: ignore)")
_REASONED = re.compile(r"# noqa: [A-Z0-9, ]+ - \w.*|# type: ignore\[[a-z, -]+\]  # \w.*")


def name_of(requirement: str) -> str:
    """The name that a requirement or a line of a lock file begins with, as package indexes compare names."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_the_house_in_the_documentation_has_every_folder_of_the_repository() -> None:
    tree = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
    tracked = subprocess.run(
        ["git", "ls-files", "*/*"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    ).stdout.splitlines()
    if not tracked:
        lacking("this is no git checkout, so which folders belong to it is not known")
    folders = {path.split("/")[0] for path in tracked} - {".ci", "docs"}
    inner = {
        part for path in tracked for top, part, *rest in [path.split("/")] if top in ("receiver", "tests") and rest
    }
    assert [name for name in sorted(folders | inner) if f"{name}/" not in tree] == []


def test_every_contract_on_imports_is_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    number = len(PROJECT["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {number} kept, 0 broken." in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_every_dependency_has_its_reason_in_the_documentation_and_nothing_else_has() -> None:
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("| package | why |")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.partition("\n\n")[0].splitlines()[2:]]
    assert {name_of(package) for package, *_ in rows} == {name_of(each) for each in RUNTIME}
    assert [package for package, why, _ in rows if not why] == []


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [("requirements.txt", RUNTIME), ("requirements-dev.txt", [*RUNTIME, *DEVELOPMENT])],
    ids=["requirements.txt", "requirements-dev.txt"],
)
def test_every_dependency_is_locked_and_every_lock_has_hashes(lock: str, wanted: list[str]) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = re.findall(r"^(?!#)(\S+?)==\S+(.*(?:\n .*)*)", text, re.MULTILINE)
    assert {name_of(each) for each in wanted} - {name_of(name) for name, _ in pins} == set()
    assert [name for name, rest in pins if "--hash=sha256:" not in rest] == []


def ignored() -> Iterator[tuple[str, str]]:
    """Yield place and text of every comment that ignores a lint rule or a type error."""
    for folder in ("receiver", "tests", "bench"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.is_relative_to(ROOT / "tests/e2e/striv") or not _IGNORED.search(file.read_text(encoding="utf-8")):
                continue
            with tokenize.open(file) as source:
                for token in tokenize.generate_tokens(source.readline):
                    if token.type == tokenize.COMMENT and _IGNORED.match(token.string):
                        yield f"{file.relative_to(ROOT)}:{token.start[0]}", token.string


def test_every_ignored_lint_rule_or_type_error_carries_its_reason_on_the_same_line() -> None:
    found = dict(ignored())
    assert len(found) > 20
    assert [f"{place}: {text}" for place, text in found.items() if not _REASONED.fullmatch(text)] == []
