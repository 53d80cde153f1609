"""The real processes, `receiver serve` and `receiver work`, in a folder of their own, for tests and the demo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from receiver.core.signature import sign
from tests.support.waiting import NotReadyError, wait_until

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"an acceptable webhook secret"


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Planes:
    """A receiver as it is deployed, on this machine: one folder with configuration, secret and journal."""

    folder: Path
    port: int
    private_port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    has_journal: bool = False

    @classmethod
    def prepare(
        cls, folder: Path, *, kubeconfig: Path, namespace: str, changes: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Planes:
        """Write a configuration that differs from config/receiver.yaml in addresses and paths alone, and in `changes`.

        Its bound of active runs is left out as well: where no pods run, no run ends.
        """
        settings = yaml.safe_load((ROOT / "config/receiver.yaml").read_text().replace("\n  on:", '\n  "on":'))
        del settings["triggers"][0]["max_active"]
        port, private_port = free_port(), free_port()
        sections: dict[str, dict[str, Any]] = {
            "serve": {"listen": f"127.0.0.1:{port}", "metrics_listen": f"127.0.0.1:{free_port()}"},
            "work": {"listen": f"127.0.0.1:{private_port}"},
            "journal": {"url": f"sqlite:///{folder}/journal.db"},
            "cluster": {"kubeconfig": str(kubeconfig), "namespace": namespace},
        }
        for section, values in (changes or {}).items():
            sections.setdefault(section, {}).update(values)
        for section, values in sections.items():
            settings[section].update(values)
        (folder / "secrets").mkdir(parents=True)
        (folder / "secrets/github").write_bytes(SECRET + b"\n")
        (folder / "pipelineruns").mkdir()
        template = (ROOT / "config/pipelineruns/striv.yaml").read_text()
        (folder / "pipelineruns/striv.yaml").write_text(template)
        (folder / "receiver.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        environment = {**os.environ, "RECEIVER_CONFIG": str(folder / "receiver.yaml"), "PYTHONPATH": str(ROOT)}
        return cls(folder, port, private_port, environment)

    @property
    def url(self) -> str:
        """The address that would be put into GitHub's form."""
        return f"http://127.0.0.1:{self.port}/webhook"

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `receiver ARGUMENTS` to its end."""
        command = [sys.executable, "-m", "receiver", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def deliveries(self, *, limit: int = 10_000) -> list[dict[str, Any]]:
        """Return what `receiver deliveries list -o json` prints."""
        done = self.command("deliveries", "list", "-o", "json", "--limit", str(limit))
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def start(self, *planes: str, environment: Mapping[str, str] | None = None) -> None:
        """Start these planes (both unless named), creating the journal before the first, and wait until they answer."""
        if not self.has_journal:
            done = self.command("journal", "migrate")
            assert done.returncode == 0, done.stderr
            self.has_journal = True
        for plane in planes or ("serve", "work"):
            self.launch(plane, environment=environment)
        for plane in planes or ("serve", "work"):
            self.wait_ready(plane)

    def launch(
        self, plane: str, *, environment: Mapping[str, str] | None = None, through: Sequence[str] = ("receiver",)
    ) -> None:
        """Start a plane and return at once; `through` is the module, with arguments, that Python runs it by."""
        with (self.folder / f"{plane}.log").open("ab") as log:
            self.processes[plane] = subprocess.Popen(
                [sys.executable, "-m", *through, plane],
                env={**self.environment, **(environment or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, plane: str, *, seconds: float = 20) -> None:
        """Return when the plane's /healthz answers 200."""
        port = self.port if plane == "serve" else self.private_port

        def answers() -> bool:
            assert self.processes[plane].poll() is None, f"{plane} ended:\n{self.log(plane)[-3000:]}"
            try:
                return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=2).ok
            except requests.RequestException:
                return False

        try:
            wait_until(answers, what=f"{plane} to be ready", seconds=seconds)
        except NotReadyError as error:
            raise AssertionError(f"{error}:\n{self.log(plane)[-3000:]}") from None

    def log(self, plane: str) -> str:
        """Return all that a plane has logged."""
        file = self.folder / f"{plane}.log"
        return file.read_text() if file.exists() else ""

    def signal(self, plane: str, number: signal.Signals) -> None:
        """Send a signal to a plane."""
        self.processes[plane].send_signal(number)

    def kill(self, plane: str) -> None:
        """SIGKILL a plane and wait until it is gone."""
        self.signal(plane, signal.SIGKILL)
        self.processes.pop(plane).wait(10)

    def stop(self, *, seconds: float = 15) -> dict[str, int]:
        """SIGTERM all planes and return their exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for plane, process in self.processes.items():
            try:
                codes[plane] = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        self.processes.clear()
        return codes

    def push(self, body: bytes, guid: str, *, event: str = "push", timeout: float = 10) -> requests.Response:
        """Deliver a signed body as GitHub would."""
        return requests.post(self.url, data=body, headers=delivery_headers(body, guid, event=event), timeout=timeout)


def delivery_headers(body: bytes, guid: str, *, event: str = "push", key: bytes = SECRET) -> dict[str, str]:
    """Return the headers of a delivery, signed."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature-256": sign(key, body),
    }
