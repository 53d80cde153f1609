"""`make demo`: a signed GitHub push becomes a PipelineRun in a real API server, admitted by Tekton itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from receiver.cli.send import curl_command
from tests.controlplane import programs
from tests.controlplane.cluster import ControlPlane
from tests.support.planes import ROOT, Planes, delivery_headers
from tests.support.waiting import NotReadyError, wait_until

FIRST, FORGED, OTHER = (f"{digit * 8}-cc78-11e3-81ab-4c9367dc0958" for digit in "abc")
HEAD_SHA = "990de66f0c1b2a3948576d5e4f30212a3b4c5d6e"
NAMESPACE = "striv-ci"


def main() -> int:
    """Run the demonstration; exit code 0 when every step did what it should."""
    started = time.monotonic()
    keep = os.environ.get("KEEP") == "1"
    folder = Path(tempfile.mkdtemp(prefix="striv-receiver-demo-"))
    with ExitStack() as stack:
        kubeconfig, search_path = _cluster(folder)
        if kubeconfig is None:
            _dry_run(folder)
            shutil.rmtree(folder)
            return 0
        planes = Planes.prepare(folder / "receiver", kubeconfig=kubeconfig, namespace=NAMESPACE)
        if keep:
            # Also when a step fails: to look at what went wrong is what it is kept for.
            stack.callback(lambda: say(what_stays(planes, kubeconfig, search_path)))
        else:
            stack.callback(shutil.rmtree, folder)
            stack.callback(_stop_cluster, folder)
        if search_path:
            os.environ["PATH"] = f"{search_path}{os.pathsep}{os.environ['PATH']}"
        os.environ["KUBECONFIG"] = str(kubeconfig)
        step("Apply the Striv pipeline (k8s/striv)")
        run("kubectl kustomize k8s/striv | kubectl apply --server-side -f - > /dev/null && echo applied", shown=True)
        step("Prove the configuration: receiver check")
        _receiver(planes, "check")
        step("Start the receiver: receiver run")
        with _running(planes, keep=keep):
            _deliver(planes)
    say(f"\nDone in {time.monotonic() - started:.0f} s.{'' if keep else ' Everything was stopped and removed.'}")
    return 0


def _deliver(planes: Planes) -> None:
    payload = planes.folder / "push.json"
    payload.write_text(json.dumps(_payload("kubernetes")))
    step("Send a signed push, as GitHub does (copy this line to do it yourself)")
    answer = _curl(planes, payload, FIRST)
    expect(answer, " 202 ", '"result":"accepted"')
    name = json.loads(answer.splitlines()[-1])["runs"][0]["run"]
    step("Send the same delivery again: a duplicate starts nothing")
    expect(_curl(planes, payload, FIRST), '"result":"duplicate"', name)
    step("Send it with a forged signature")
    forged = delivery_headers(payload.read_bytes(), FORGED, key=b"a guess")
    expect(_curl(planes, payload, FORGED, headers=forged), " 401 ")
    step("Push to a branch that no trigger wants")
    other = planes.folder / "other.json"
    other.write_text(json.dumps(_payload("gh-readonly-queue/kubernetes/pr-1")))
    expect(_curl(planes, other, OTHER), " 200 ", '"reason":"branch-filtered"')
    step("What came in, and what became of it: receiver deliveries list")
    _wait_started(planes)
    _receiver(planes, "deliveries", "list")
    step(f"The PipelineRun, as the API server has it: kubectl get pipelinerun {name} -o yaml")
    run(f"kubectl get pipelinerun {name} --namespace {NAMESPACE} -o yaml", shown=True)
    step("Tekton is at work on it (the pods stay Pending here: this control plane has no node)")
    show_taskruns(name)


def _cluster(folder: Path) -> tuple[Path | None, str]:
    """Return the kubeconfig of the cluster to use, None where there is none to be had, and the folder with kubectl.

    That folder is empty where the cluster is not ours: then kubectl is the user's own, and nothing is stopped.
    """
    if given := os.environ.get("DEMO_KUBECONFIG"):
        say(f"Using the cluster of {given}: k8s/striv is applied to it, and stays.")
        return Path(given).resolve(), ""
    step("Start a control plane: etcd, kube-apiserver, controller-manager, Tekton (built once, about ten minutes)")
    try:
        using = programs.ensure()
    except programs.ProgramsError as error:
        say(f"There is no control plane: {error}")
        return None, ""
    plane = ControlPlane.start(folder / "controlplane", keep=True, using=using)
    say(f"API server: {plane.server}")
    return plane.kubeconfig, str(using["kubectl"].parent)


def _stop_cluster(folder: Path) -> None:
    plane = ControlPlane.attach(folder / "controlplane") if (folder / "controlplane").exists() else None
    if plane is not None:
        plane.stop()


@contextmanager
def _running(planes: Planes, *, keep: bool) -> Iterator[None]:
    """`receiver run` for the time of a with block, or longer."""
    with (planes.folder / "run.log").open("ab") as log:
        command = [sys.executable, "-m", "receiver", "run"]
        process = subprocess.Popen(command, env=planes.environment, stdout=log, stderr=log, start_new_session=True)
    planes.processes["serve"] = planes.processes["work"] = process
    try:
        for plane in ("serve", "work"):
            planes.wait_ready(plane)
        say(f"listening on {planes.url}")
        yield
    finally:
        if not keep:
            process.terminate()
            process.wait(20)


def _dry_run(folder: Path) -> None:
    step("Dry run: the same push, and what would be created")
    planes = Planes.prepare(folder / "receiver", kubeconfig=folder / "none", namespace=NAMESPACE)
    payload = planes.folder / "push.json"
    payload.write_text(json.dumps(_payload("kubernetes")))
    _receiver(planes, "check", "--offline")
    _receiver(planes, "explain", str(payload))
    say(
        "\nNot done, because there is no cluster: nothing was applied, admitted or created, and no delivery was sent.\n"
        "Install Go 1.26.4 or newer, or set DEMO_KUBECONFIG to a cluster with Tekton, and run `make demo` again."
    )


def _wait_started(planes: Planes) -> None:
    def started() -> bool:
        return all(job["state"] != "waiting" for delivery in planes.deliveries() for job in delivery["jobs"])

    try:
        wait_until(started, what="the run to be created", seconds=15)
    except NotReadyError as error:
        raise SystemExit(f"{error}; see {planes.folder / 'run.log'}") from None


def _curl(planes: Planes, payload: Path, guid: str, *, headers: dict[str, str] | None = None) -> str:
    command = curl_command(planes.url, headers or delivery_headers(payload.read_bytes(), guid), payload)
    say(f"$ {command}")
    return run(command, shown=True)


def _receiver(planes: Planes, *arguments: str) -> None:
    command = [sys.executable, "-m", "receiver", *arguments]
    done = subprocess.run(command, env=planes.environment, capture_output=True, text=True, check=False)
    say(done.stdout.rstrip())
    if done.returncode:
        raise SystemExit(f"receiver {' '.join(arguments)} failed ({done.returncode}): {done.stderr}")


def show_taskruns(name: str, *, seconds: float = 30) -> None:
    """Show what Tekton made of a run; when that is nothing for so long, the demonstration ends."""
    command = f"kubectl get taskruns --namespace {NAMESPACE} -l tekton.dev/pipelineRun={name}"
    try:
        found = wait_until(lambda: run(command, shown=False), what=f"TaskRuns of {name}", seconds=seconds)
    except NotReadyError as error:
        raise SystemExit(f"{error}: does Tekton's controller run in this cluster?") from None
    say(found.rstrip())


def what_stays(planes: Planes, kubeconfig: Path, search_path: str) -> str:
    """Return what is left running, how to use it and how to stop it."""
    lines = ["", "Left running:"]
    process = planes.processes.get("serve")
    if process is not None and process.poll() is None:
        lines += [f"  webhook     {planes.url}", f"  metrics     http://127.0.0.1:{planes.private_port}/metrics"]
        stop = [f"  kill {process.pid}"]
    else:
        lines += ["  the receiver does not run"]
        stop = []
    lines += [f"  folder      {planes.folder} (configuration, secret, journal, run.log)", ""]
    variables = f"KUBECONFIG={kubeconfig} RECEIVER_CONFIG={planes.folder}/receiver.yaml"
    lines += [f"  export {variables} PATH={search_path}:$PATH" if search_path else f"  export {variables}"]
    if search_path:
        stop += [f"  {sys.executable} -m tests.controlplane --state {kubeconfig.parent} down"]
    return "\n".join([*lines, "", "Stop it:", *stop] if stop else lines)


def _payload(branch: str) -> dict[str, object]:
    """A push as GitHub describes it, of our own making."""
    now = int(time.time())
    title = "Let the tests find their databases"
    author = {"name": "Ada", "email": "ada@example.org", "username": "ada"}
    commit = {
        "id": HEAD_SHA,
        "message": f"{title}\n\nThe pipeline knows where they are.",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now)),
        "author": author,
        "committer": author,
        "distinct": True,
        "added": [],
        "removed": [],
        "modified": ["test/rdbm_support.py"],
    }
    before = "4f30212a3b4c5d6e990de66f0c1b2a3948576d5e"
    return {
        "ref": f"refs/heads/{branch}",
        "before": before,
        "after": HEAD_SHA,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/bittrance/striv/compare/{before[:12]}...{HEAD_SHA[:12]}",
        "commits": [commit],
        "head_commit": commit,
        "repository": {"id": 347122219, "full_name": "bittrance/striv", "pushed_at": now, "default_branch": "master"},
        "pusher": {"name": "ada", "email": "ada@example.org"},
        "sender": {"login": "ada", "id": 1, "type": "User"},
    }


def run(command: str, *, shown: bool) -> str:
    """Run a shell command in the project's folder and return what it prints; a failure ends the demonstration."""
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602 - shown as typed
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {command}\n{done.stdout}{done.stderr}")
    if shown:
        say(done.stdout.replace("\r\n", "\n").rstrip())
    return done.stdout


def expect(answer: str, *parts: str) -> None:
    """End the demonstration when an answer is not what it should be."""
    for part in parts:
        if part not in answer:
            raise SystemExit(f"expected {part!r} in the answer:\n{answer}")


def step(title: str) -> None:
    """Print a headline, bold on a terminal."""
    say(f"\n\x1b[1m== {title}\x1b[0m" if sys.stdout.isatty() else f"\n== {title}")


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201 - it is what a demonstration is for


if __name__ == "__main__":
    sys.exit(main())
