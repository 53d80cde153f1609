"""The shell scripts of the checkout: one commit by its full id, and a folder of the cache for each branch."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scripts import SCRIPTS

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Origin:
    """A repository to fetch from."""

    def __init__(self, folder: Path, object_format: str = "sha1") -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", f"--object-format={object_format}")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        environment = {**os.environ, **IDENTITY}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, content: str) -> str:
        (self.folder / "file").write_text(content)
        self.git("add", "file")
        self.git("commit", "--quiet", "--message", content)
        return self.git("rev-parse", "HEAD")


def checkout(
    folder: Path, revision: str, *, url: str, protocols: str = "file"
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the script as the Task does; return how it ended, and the workspace."""
    workspace = folder / "workspace"
    workspace.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": protocols,
        "REPO_URL": url,
        "REVISION": revision,
        "WORKSPACE": str(workspace),
        "COMMIT_RESULT": str(folder / "commit"),
    }
    command = ["sh", str(SCRIPTS / "checkout.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    return done, workspace


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_commit_is_fetched_by_its_id_though_the_branch_has_moved_on(object_format: str, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin", object_format)
    wanted = origin.commit("first")
    origin.commit("second")

    done, workspace = checkout(tmp_path, wanted, url=f"file://{origin.folder}")

    assert done.returncode == 0, done.stderr
    assert (workspace / "source" / "file").read_text() == "first"
    assert (tmp_path / "commit").read_text() == wanted


def test_a_second_attempt_begins_anew(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    wanted = origin.commit("first")
    (tmp_path / "workspace" / "source" / "leftover").mkdir(parents=True)

    done, workspace = checkout(tmp_path, wanted, url=f"file://{origin.folder}")

    assert done.returncode == 0, done.stderr
    assert {path.name for path in (workspace / "source").iterdir()} == {".git", "file"}


@pytest.mark.parametrize(
    "revision",
    ["", "master", "HEAD", "1" * 39, "1" * 41, "A" * 40, "--upload-pack=touch pwned", "1" * 40 + "\n", "$(id)" * 8],
)
def test_what_is_no_full_commit_id_is_refused(revision: str, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    origin.commit("first")

    done, workspace = checkout(tmp_path, revision, url=f"file://{origin.folder}")

    assert done.returncode == 1
    assert "revision is not the full id of a commit" in done.stderr
    assert not list(workspace.iterdir())


def test_an_unknown_commit_is_told_with_gits_own_words(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    origin.commit("first")

    done, _ = checkout(tmp_path, "1" * 40, url=f"file://{origin.folder}")

    assert done.returncode == 1
    assert f"commit {'1' * 40} cannot be fetched" in done.stderr
    assert "not our ref" in done.stderr


def test_the_id_of_something_else_than_a_commit_is_refused(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    origin.commit("first")
    tree = origin.git("rev-parse", "HEAD^{tree}")
    origin.git("tag", "--annotate", "--message=x", "v1")
    tag = origin.git("rev-parse", "v1")

    assert checkout(tmp_path, tree, url=f"file://{origin.folder}")[0].returncode != 0
    assert checkout(tmp_path, tag, url=f"file://{origin.folder}")[0].returncode != 0


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% pwned", "--upload-pack=touch pwned", "file:///etc", "/etc", "ssh://x/y"]
)
def test_an_address_that_is_not_of_the_web_is_refused(url: str, tmp_path: Path) -> None:
    done, workspace = checkout(tmp_path, "1" * 40, url=url, protocols="https:http:git")

    assert done.returncode == 1
    assert not list(tmp_path.rglob("pwned"))
    assert not (workspace / "source" / "file").exists()


def test_nothing_that_the_commit_configures_is_executed(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    hostile = {
        ".gitattributes": "* filter=evil\n",
        ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% pwned\n\tupdate = !touch pwned\n',
        ".githooks/post-checkout": "#!/bin/sh\ntouch pwned\n",
    }
    for name, content in hostile.items():
        path = origin.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)
    origin.git("add", "--all")
    wanted = origin.commit("hostile")

    done, _ = checkout(tmp_path, wanted, url=f"file://{origin.folder}")

    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("pwned"))


def scopes(
    folder: Path, *, branch: str, repository: str, protected: str = "master", url: str = "https://example.com/striv"
) -> tuple[str, str]:
    """Run the script that names the folders of the cache: the run's own and the protected one."""
    environment = {
        "PATH": os.environ["PATH"],
        "BRANCH": branch,
        "REPO_URL": url,
        "REPOSITORY_ID": repository,
        "PROTECTED_BRANCH": protected,
        "PIPELINE_RUN_UID": "0a-uid",
        "CACHE_SCOPE_RESULT": str(folder / "own"),
        "STATE": str(folder),
    }
    subprocess.run(["sh", str(SCRIPTS / "cache_scopes.sh")], env=environment, check=True, cwd="/")
    return (folder / "own").read_text(), (folder / "protected-cache-scope").read_text()


def test_the_protected_branch_has_its_own_scope_as_the_protected_one(tmp_path: Path) -> None:
    own, protected = scopes(tmp_path, branch="master", repository="1")
    assert own == protected
    assert scopes(tmp_path, branch="other", repository="1")[1] == protected
    for elsewhere in (
        scopes(tmp_path, branch="master", repository="2"),
        scopes(tmp_path, branch="master", repository="1", url="https://example.com/other"),
    ):
        assert not {own, protected} & set(elsewhere)


@pytest.mark.parametrize(("branch", "repository"), [("", "1"), ("master", ""), ("", "")])
def test_a_run_without_branch_or_repository_has_a_scope_of_its_own(
    branch: str, repository: str, tmp_path: Path
) -> None:
    assert scopes(tmp_path, branch=branch, repository=repository)[0] == "run-0a-uid"


@pytest.mark.parametrize("branch", ["a$b", "a$$b", "$", "$HOME"])
def test_a_branch_with_a_dollar_has_no_scope_since_kubernetes_may_have_changed_its_name(
    branch: str, tmp_path: Path
) -> None:
    assert scopes(tmp_path, branch=branch, repository="1") == (
        "run-0a-uid",
        scopes(tmp_path, branch="b", repository="1")[1],
    )
    assert scopes(tmp_path, branch="b", repository="1", protected=branch)[1] == "run-0a-uid"


@settings(max_examples=30, deadline=None)
@given(branch=st.text(st.characters(exclude_characters="\0$", exclude_categories=["Cs"]), min_size=1))
def test_any_branch_names_a_plain_folder(branch: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    own, protected = scopes(tmp_path_factory.getbasetemp(), branch=branch, repository="1")

    assert own.removeprefix("branch-").isalnum()
    assert len(own) == 47
    assert (own == protected) == (branch == "master")
