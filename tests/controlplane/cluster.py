"""ControlPlane: start, use, break and stop a real Kubernetes API server with Tekton."""

import json
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.controlplane import commands, programs
from tests.controlplane.api import Api, ApiError, Object
from tests.controlplane.manifests import NAMESPACE, SERVICE, prepared
from tests.controlplane.pki import Pki, make_pki, webhook_certificates
from tests.controlplane.processes import Component, Watchdog, free_ports, occupied
from tests.controlplane.readiness import KNATIVE_PORT, Readiness
from tests.controlplane.state import read_state, write_kubeconfig, write_state, write_tokens
from tests.support.waiting import NotReadyError, wait_until

START_SECONDS = 120
"""How long a component may take to become ready, on a machine that is busy with other things."""


class ControlPlane:
    """One control plane: its processes, and how to reach it.

    All of its files lie in `state_dir`: `kubeconfig`, `logs/`, keys, etcd's data, and `state.json` by which
    `attach` finds it again. Components have the names of COMPONENTS in `commands`.
    """

    def __init__(self, state_dir: Path, *, programs: programs.Programs, state: Mapping[str, Any], keep: bool) -> None:
        """Use `start` or `attach` instead."""
        self.state_dir = state_dir
        self.programs = programs
        self.ports: dict[str, int] = dict(state["ports"])
        self.token: str = state["token"]
        self.keep = keep
        self.timings: dict[str, float] = {}
        """What the start waited for -> seconds."""
        self.pki: Pki = make_pki(state_dir / "pki")
        self.api = Api(server=self.server, token=self.token, ca_file=self.pki.ca)
        self._readiness = Readiness(api=self.api, ports=self.ports, log=self.log)
        self._watchdog = None if keep else Watchdog()
        self._components = {
            name: Component(
                name,
                command.arguments,
                environment=command.environment,
                log=state_dir / "logs" / f"{name}.log",
                # Tekton's webhook drains for 45 s when asked politely.
                stop_signal=signal.SIGKILL if name == "tekton-webhook" else signal.SIGTERM,
                watchdog=self._watchdog,
                pid=state.get("pids", {}).get(name),
            )
            for name, command in commands.all_commands(
                programs=programs, ports=self.ports, pki=self.pki, state_dir=state_dir
            ).items()
        }

    # ---------------------------------------------------------------- whole
    @classmethod
    def start(cls, state_dir: Path, *, keep: bool = False, using: programs.Programs | None = None) -> Self:
        """Start a control plane in state_dir and return it when it is ready for PipelineRuns.

        A stopped or half-dead one in that folder comes back with its data. With `keep` the processes stay
        when this process ends; without it they end with it, however it ends. Raises ProgramsError (nothing to
        start) or NotReadyError (with the end of the log that matters); nothing is left running then.
        """
        state_dir = state_dir.absolute()
        using = using or programs.ensure()
        state_dir.mkdir(parents=True, exist_ok=True)
        state_dir.chmod(0o700)
        state = read_state(state_dir) or {
            "ports": free_ports(commands.PORT_NAMES),
            "token": secrets.token_urlsafe(24),
        }
        plane = cls(state_dir, programs=using, state=state, keep=keep)
        try:
            plane._start_all()
        except BaseException:
            plane.stop(keep_data=True)
            raise
        return plane

    @classmethod
    def attach(cls, state_dir: Path) -> Self | None:
        """Return the control plane that `start(keep=True)` left in state_dir, running or not, or None."""
        state_dir = state_dir.absolute()
        state, found = read_state(state_dir), programs.find()
        return cls(state_dir, programs=found, state=state, keep=True) if state and found else None

    def stop(self, *, keep_data: bool = False) -> None:
        """Kill every process; remove etcd's data, keys and tokens unless they are to be kept. Logs stay."""
        for component in self._components.values():
            component.kill(signal.SIGKILL)
        for component in self._components.values():
            component.wait_ended()
        if self._watchdog:
            self._watchdog.close()
            self._watchdog = None
        if keep_data:
            self._write_state()
            return
        for name in ("etcd", "pki"):
            shutil.rmtree(self.state_dir / name, ignore_errors=True)
        for name in ("state.json", "kubeconfig", "tokens.csv"):
            (self.state_dir / name).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---------------------------------------------------------------- parts
    def running(self) -> dict[str, bool]:
        """Tell for each component whether its process runs."""
        return {name: component.running() for name, component in self._components.items()}

    def start_component(self, name: str) -> None:
        """Start one component again, on the same port with the same data, and return when it is ready."""
        component = self._components[name]
        component.start()
        self._write_state()
        self._wait_ready(name)

    def stop_component(self, name: str) -> None:
        """Stop one component and return when it has ended."""
        self._components[name].stop()
        self._write_state()

    def kill_component(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one component; return at once, but after SIGKILL when it has ended."""
        self._components[name].kill(number)
        if number == signal.SIGKILL:
            self._components[name].wait_ended()
            self._write_state()

    @contextmanager
    def outage(self, name: str) -> Iterator[None]:
        """Kill one component for the length of a with block; it is ready again after it."""
        self.kill_component(name)
        try:
            yield
        finally:
            self.start_component(name)

    @contextmanager
    def changed(self, name: str, *arguments: str) -> Iterator[None]:
        """Run one component with more arguments for the length of a with block; it is started anew before and after."""
        component = self._components[name]
        usual = component.command
        try:
            with self.outage(name):
                component.command = [*usual, *arguments]
            yield
        finally:
            with self.outage(name):
                component.command = usual

    def log(self, name: str) -> str:
        """Return what a component logged since its last start."""
        return self._components[name].log_text()

    # ---------------------------------------------------------------- addresses
    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.state_dir / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which kubectl and the receiver use this control plane."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    # ---------------------------------------------------------------- starting
    def _start_all(self) -> None:
        write_kubeconfig(self.kubeconfig, server=self.server, ca_file=self.pki.ca, token=self.token)
        write_tokens(self.state_dir, token=self.token)
        with ThreadPoolExecutor(max_workers=8) as pool:
            # Reading 2 MB of manifests and making keys fits into the time that the API server needs anyway.
            manifests = pool.submit(self._tekton_manifests)
            with self._timed("etcd"):
                self._start_and_wait("etcd")
            with self._timed("kube-apiserver"):
                self._start_and_wait("kube-apiserver")
            with self._timed("Tekton's objects"):
                self._create_tekton(manifests.result(), pool)
            with self._timed("controllers"), occupied(KNATIVE_PORT):
                # The garbage collector finds new kinds every 30 s only: it must not start before the CRDs are
                # there.
                names = ("tekton-webhook", "tekton-controller", "kube-controller-manager")
                for name in names:
                    self._components[name].start()
                self._write_state()
                list(pool.map(self._wait_ready, names))

    def _start_and_wait(self, name: str) -> None:
        self._components[name].start()
        self._write_state()
        self._wait_ready(name)

    def _tekton_manifests(self) -> list[Object]:
        objects = json.loads(self.programs.tekton_manifests.read_text())
        certificates = webhook_certificates(service=SERVICE, namespace=NAMESPACE)
        return prepared(objects, webhook_port=self.ports["tekton-webhook"], certificates=certificates)

    def _create_tekton(self, manifests: list[Object], pool: ThreadPoolExecutor) -> None:
        def create(manifest: Object) -> None:
            with suppress_conflict():
                self.api.create(manifest)

        first = [each for each in manifests if each["kind"] == "Namespace"]
        crds = [each for each in manifests if each["kind"] == "CustomResourceDefinition"]
        rest = [each for each in manifests if each not in first and each not in crds]
        for each in first:
            create(each)
        list(pool.map(create, [*crds, *rest]))
        wait_until(lambda: self._established() >= {each["metadata"]["name"] for each in crds}, what="Tekton's CRDs")

    def _established(self) -> set[str]:
        return {
            crd["metadata"]["name"]
            for crd in self.api.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
            for condition in crd["status"]["conditions"] or []
            if (condition["type"], condition["status"]) == ("Established", "True")
        }

    # ---------------------------------------------------------------- readiness
    def _wait_ready(self, name: str) -> None:
        component = self._components[name]

        def ready() -> bool:
            if not component.running():
                raise NotReadyError(f"{name} ended")
            return self._readiness.ready(name)

        started = time.monotonic()
        try:
            wait_until(ready, what=name, seconds=START_SECONDS)
        except NotReadyError as error:
            raise NotReadyError(f"{error}; the end of {component.log}:\n{_tail(component.log_text())}") from error
        if self.keep:
            component.detach()
        self.timings[f"{name} ready"] = time.monotonic() - started

    # ---------------------------------------------------------------- files
    def _write_state(self) -> None:
        pids = {name: component.pid for name, component in self._components.items() if component.pid}
        write_state(self.state_dir, ports=self.ports, token=self.token, pids=pids)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings[what] = time.monotonic() - started


@contextmanager
def suppress_conflict() -> Iterator[None]:
    """Take an object that is there already for success."""
    try:
        yield
    except ApiError as error:
        if error.code != 409:
            raise


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
