"""Processes that outlive neither their owner nor their welcome, and free ports for them."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.waiting import NotReadyError, wait_until

# Below every system's range for outgoing connections: there, a client that retries a stopped server's port
# could be given that very port as its own, and connect to itself.
PORTS = range(20000, 32000)

_WATCHDOG = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try: os.killpg(group, signal.SIGKILL)
    except OSError: pass
"""


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """Choose a port for each name on which nothing listens."""
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        for name in names:
            while name not in chosen:
                port = random.choice(PORTS)
                probe = held.enter_context(socket.socket())
                with suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    chosen[name] = port
    return chosen


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Keep others from listening on this port for a while, without answering; do nothing if it is taken."""
    with socket.socket(socket.AF_INET) as holder:
        with suppress(OSError):
            holder.bind(("", port))
        yield


class Watchdog:
    """Kills what it was told about when this process ends, however it ends.

    A process of its own at the end of a pipe: the kernel closes our end whatever happens to us. (Linux'
    parent death signal follows the thread that started a child, not the process.)
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-ISu", "-c", _WATCHDOG],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """Watch over this process group."""
        self._tell(f"+{pid}\n")

    def discard(self, pid: int) -> None:
        """Forget this process group: it has ended."""
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Kill what is left and end."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()


class Component:
    """One program with its arguments: started, stopped and started again with the same."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        watchdog: Watchdog | None = None,
        pid: int | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment = dict(environment or {})
        self.stop_signal = stop_signal
        self.pid = pid
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start the program in a process group of its own, unless it runs; return at once."""
        if self.running():
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        # The user's proxies, kubeconfig and Kubernetes settings are not meant for these programs.
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG") if key in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=inherited | self.environment,
                cwd=self.log.parent,
                start_new_session=True,
            )
        self.pid = self._process.pid
        if self._watchdog:
            self._watchdog.add(self.pid)

    def detach(self) -> None:
        """Know the program by its pid from now on: it is meant to outlive us, of which Popen would warn."""
        if self._process:
            self._process.returncode = 0
            self._process = None

    def running(self) -> bool:
        """Tell whether the program runs (a zombie does not)."""
        if self._process:
            return self._process.poll() is None
        # Started by another process: the pid may belong to something else by now.
        return self.pid is not None and command_of(self.pid) == self.command[0]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the program's process group and return at once."""
        if self.pid is not None and self.running():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def stop(self, *, seconds: float = 10) -> None:
        """End the program: its own stop signal first, SIGKILL when that did not help within `seconds`."""
        self.kill(self.stop_signal)
        try:
            self.wait_ended(seconds=seconds)
        except NotReadyError:
            self.kill(signal.SIGKILL)
            self.wait_ended(seconds=seconds)

    def wait_ended(self, *, seconds: float = 10) -> None:
        """Return when the program has ended."""
        wait_until(lambda: not self.running(), what=f"{self.name} to end", seconds=seconds)
        if self._watchdog and self.pid is not None:
            self._watchdog.discard(self.pid)
        self.pid = self._process = None

    def log_text(self) -> str:
        """Return what the program wrote since it was started last."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")


def command_of(pid: int) -> str:
    """Return the program that a process runs, or '' when there is none."""
    arguments = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        with suppress(OSError):
            return arguments.read_bytes().split(b"\0")[0].decode()
        return ""
    answer = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return answer.stdout.split(" ")[0].strip()
