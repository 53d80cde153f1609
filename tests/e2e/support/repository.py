"""The repository that pods fetch from: a git server in the cluster, filled with the miniature of Striv."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.support.cluster import Cluster, eventually, kubectl, stand_in_images

NAMESPACE = "striv-e2e"
URL = f"git://git.{NAMESPACE}.svc/striv.git"
MINIATURE = Path(__file__).resolve().parents[1] / "striv"
SERVER = Path(__file__).with_name("git-server.yaml")
ENDLESS_BACKEND = """
import signal

def test_ends_only_with_its_run(store):
    signal.pause()
"""
"""A test of the back end for runs that a test here ends: however slow the cluster is, it is under way until then."""

IDENTITY = {
    "GIT_AUTHOR_NAME": "Miniature",
    "GIT_AUTHOR_EMAIL": "miniature@example.com",
    "GIT_COMMITTER_NAME": "Miniature",
    "GIT_COMMITTER_EMAIL": "miniature@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "ext",
}


class Repository:
    """A working copy whose commits are pushed to the server in the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=start")
        self.git("commit", "--quiet", "--allow-empty", "--message=Start")

    def git(self, *arguments: str) -> str:
        """Run git in the working copy and return what it prints."""
        command = ["git", "-C", str(self.folder), *arguments]
        result = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **IDENTITY}, timeout=120, check=False
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout.strip()

    def commit(
        self, *, flavour: str = "kubernetes", files: dict[str, str] | None = None, message: str = "Change"
    ) -> str:
        """Commit the miniature of that flavour with other contents for some files; return the commit's id."""
        self.git("checkout", "--quiet", "--detach", "start")
        shutil.copytree(MINIATURE / "common", self.folder, dirs_exist_ok=True)
        shutil.copytree(MINIATURE / flavour, self.folder, dirs_exist_ok=True)
        for name, content in (files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            if content.startswith("#!"):
                path.chmod(0o755)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def push(self, commit: str, ref: str) -> None:
        """Push a commit to a full ref, such as refs/heads/master, of the server."""
        server = f"ext::kubectl exec -i -n {NAMESPACE} git -- %S /srv/striv.git"
        self.git("push", "--quiet", "--force", server, f"{commit}:{ref}")

    def push_commit(
        self,
        branch: str,
        *,
        flavour: str = "kubernetes",
        files: dict[str, str] | None = None,
        message: str = "Change",
    ) -> str:
        """Commit and push to a branch; return the commit's id."""
        commit = self.commit(flavour=flavour, files=files, message=message)
        self.push(commit, f"refs/heads/{branch}")
        return commit


def start_server(cluster: Cluster) -> None:
    """Start the git server and wait until it can be pushed to."""
    stand_in_images([SERVER])
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(SERVER))

    def ready() -> bool:
        pod = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/git")
        conditions = (pod or {}).get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    eventually(ready, what="the git server is ready", seconds=120)
