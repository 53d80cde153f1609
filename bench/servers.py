"""`python -m bench.servers`: the receiver under several HTTP servers, measured for what docs/servers.md says.

The other servers are no dependencies: they are installed into an environment of their own, in a temporary folder.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.load import request, run
from tests.support.folders import trigger, write_folder
from tests.support.planes import free_port
from tests.support.pushes import encoded, push_payload
from tests.support.signing import delivery_headers

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gunicorn", "gevent", "waitress", "uvicorn", "httptools", "asgiref")
_PATIENCE_SECONDS = 8.0
_HEAD = b"POST /webhook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: sha256=" + b"0" * 64 + b"\r\n"
_ATTACKS = {
    "idle": b"",
    "half heads": _HEAD[:-20],
    "stalled bodies": _HEAD + b"Content-Length: 8000\r\n\r\n" + b"x" * 4_000,
}
_SERVERS: dict[str, tuple[str, ...]] = {
    "granian RSGI, embedded (ours)": ("{python}", "-m", "receiver", "serve"),
    "granian WSGI, 4 threads": (
        "{python}", "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}",
        "--blocking-threads", "4", "--http", "1", "--log-level", "error", "bench.plain:application",
    ),
    "gunicorn gthread, 4 threads": (
        "{python}", "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4",
        "--log-level", "error", "bench.plain:application",
    ),
    "gunicorn gevent": (
        "{python}", "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gevent",
        "--log-level", "error", "bench.plain:application",
    ),
    "waitress, 4 threads": (
        "{python}", "-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", "--connection-limit=1000",
        "bench.plain:application",
    ),
    "uvicorn + asgiref": (
        "{python}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "error",
        "--no-access-log", "bench.plain:asgi",
    ),
}  # fmt: skip
_COLUMNS = (
    "server", "filtered pushes", "p50 / p99 ms", "PSS MB", "20 idle", "300 idle", "20 half heads", "300 half heads",
    "20 stalled bodies", "300 stalled bodies", "unsigned 25 MB: answer", "and memory", "SIGTERM amid a body",
)  # fmt: skip


@dataclass
class Bench:
    """One server at a time, on one configuration."""

    python: Path
    config: Path
    port: int
    seconds: float

    @property
    def url(self) -> str:
        """The webhook's address."""
        return f"http://127.0.0.1:{self.port}/webhook"

    @contextmanager
    def server(self, command: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server until the end of the block."""
        filled = [part.format(python=self.python, port=self.port) for part in command]
        environment = {
            **os.environ,
            "RECEIVER_CONFIG": str(self.config),
            "RECEIVER__SERVE__LISTEN": f"127.0.0.1:{self.port}",
            "PYTHONPATH": str(ROOT),
        }
        with (self.config.parent / "server.log").open("wb") as log:
            process = subprocess.Popen(
                filled, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait(process)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 30
        while self.push() != 200:
            if process.poll() is not None or time.monotonic() > end:
                log = (self.config.parent / "server.log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"the server did not start:\n{log[-2_000:]}")

    def raw_push(self) -> bytes:
        """Return a signed push of 8 KB that no trigger wants."""
        body = encoded(push_payload(ref="refs/heads/gh-readonly-queue/x", message="x" * 3_300))
        return request(self.url, delivery_headers(body), body)

    def push(self) -> int | None:
        """Return the status of a normal push, None when it does not come in time."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_SECONDS) as connection:
                connection.sendall(self.raw_push())
                return _status(connection.recv(65_536))
        except OSError:
            time.sleep(0.05)
            return None

    def beside(self, number: int, content: bytes) -> str:
        """Return how long a normal push takes beside so many clients that stop after `content`."""
        with ExitStack() as stack:
            for _ in range(number):
                with suppress(OSError):
                    stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=2)).sendall(content)
            time.sleep(0.5)
            began = time.perf_counter()
            status = self.push()
            seconds = time.perf_counter() - began
        return f"{seconds * 1_000:.0f} ms" if status == 200 else f"**> {_PATIENCE_SECONDS:g} s**"

    def unsigned(self, pid: int) -> tuple[str, str]:
        """Send 25 MB without a signature; return what the client reads, and what it cost beyond a first, small one."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
            connection.recv(65_536)
        before = _memory(pid, "Rss")
        most = before
        piece = b"x" * 2**20
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_SECONDS) as connection:
            try:
                connection.sendall(
                    b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (25 * len(piece))
                )
                for _ in range(25):
                    connection.sendall(piece)
                    most = max(most, _memory(pid, "Rss"))
                got = f"{_status(connection.recv(65_536))}"
            except OSError as error:
                got = f"**{type(error).__name__}**"
        return got, f"+{max(most, _memory(pid, 'Rss')) - before:.1f} MB"

    def stop_amid(self, process: subprocess.Popen[bytes]) -> str:
        """Send SIGTERM while a push is half sent, then the rest; return its status and how long the end took."""
        raw = self.raw_push()
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_SECONDS) as connection:
            connection.sendall(raw[:-10])
            time.sleep(0.5)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            try:
                connection.sendall(raw[-10:])
                status = _status(connection.recv(65_536))
            except OSError:
                status = None
        try:
            process.wait(35)
        except subprocess.TimeoutExpired:
            return f"{status or '**cut**'}, **never ends**"
        return f"{status or '**cut**'}, ends after {time.monotonic() - began:.1f} s"

    def row(self, name: str, command: tuple[str, ...]) -> list[str]:
        """Measure one server."""
        row = [name]
        with self.server(command) as process:
            pushes = [self.raw_push() for _ in range(200)]
            run(self.url, itertools.cycle(pushes), connections=16, seconds=1)
            result = run(self.url, itertools.cycle(pushes), connections=16, seconds=self.seconds)
            row += [f"{result.rate:,.0f}/s", f"{result.p50 * 1e3:.1f} / {result.p99 * 1e3:.1f}"]
            row.append(f"{_memory(process.pid, 'Pss'):.0f}")
        for content, number in itertools.product(_ATTACKS.values(), (20, 300)):
            with self.server(command):
                row.append(self.beside(number, content))
        with self.server(command) as process:
            row += self.unsigned(process.pid)
        with self.server(command) as process:
            row.append(self.stop_amid(process))
        return row


def _status(answer: bytes) -> int | None:
    found = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    return int(found[1]) if found else None


def _memory(pid: int, kind: str) -> float:
    """Return the memory of a process and its children in MB: `Pss` or `Rss`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    found = re.search(rf"^{kind}:\s+(\d+)", text, re.MULTILINE)
    own = int(found[1]) / 1_024 if found else 0.0
    return own + sum(_memory(int(child), kind) for child in children)


def _environment(folder: Path) -> Path:
    """Install the other servers beside our own packages; return the Python that has both."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    inside = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    Path(inside.stdout.strip(), "ours.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    return python


def _versions(python: Path) -> str:
    code = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    done = subprocess.run([python, "-c", code, "granian", *PACKAGES], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Measure the servers that were named, all of them unless any was, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.servers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of a server's name")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to measure throughput")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard) if hard > 0 else 4_096, hard))
    wanted: Callable[[str], bool] = lambda name: not options.names or any(part in name for part in options.names)  # noqa: E731 - typed in one line
    with tempfile.TemporaryDirectory(prefix="receiver-servers-") as place:
        folder = Path(place)
        python = _environment(folder / "venv")
        on = {"push": {"branches": ["**", "!gh-readonly-queue/**"]}}
        serve: Mapping[str, object] = {"metrics_listen": None}
        config = write_folder(folder / "config", triggers=[trigger(on=on)], serve=serve)
        subprocess.run([python, "-m", "receiver", "--config", config, "journal", "migrate"], check=True, cwd=ROOT)
        bench = Bench(python, config, free_port(), options.seconds)
        today = dt.datetime.now(tz=dt.UTC).date()
        _say(f"{today}, {os.cpu_count()} cores, Python {platform.python_version()}; {_versions(python)}\n")
        _say("| " + " | ".join(_COLUMNS) + " |\n|" + "---|" * len(_COLUMNS))
        for name, command in _SERVERS.items():
            if wanted(name):
                _say("| " + " | ".join(bench.row(name, command)) + " |")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
