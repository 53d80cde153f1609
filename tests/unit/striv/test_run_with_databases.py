"""The command that runs with its databases at the loopback address, with real sockets."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripts import load_script

script = load_script("run_with_databases")
TALK = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b"question")
connection.shutdown(socket.SHUT_WR)
sys.stdout.write(connection.makefile().read())
"""


class Database:
    """Listens on a loopback address of its own, greets, and answers with what it was asked."""

    def __init__(self, port: int) -> None:
        self.asked: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.2", port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def answer(self, connection: socket.socket) -> None:
        # Whoever only wants to know whether it speaks goes away in the middle of its greeting.
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"hello, ")
            question = b"".join(iter(lambda: connection.recv(100), b""))
            if question:
                self.asked.append(question)
                connection.sendall(b"you asked " + question)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def database(port: int) -> Iterator[Database]:
    made = Database(port)
    yield made
    made.stop()


def run(command: list[str], folder: Path, port: int, *, seconds: float = 5) -> int:
    """Run a command with one forwarder."""
    code: int = script.run(
        command,
        folder=folder,
        databases=[script.Database("mysql", "127.0.0.2", port, b"")],
        seconds=seconds,
        again_seconds=0.2,
        problem=folder / "problem",
    )
    return code


@pytest.mark.usefixtures("database")
def test_a_command_talks_to_the_database_at_the_loopback_address(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([sys.executable, "-c", TALK, str(port)], tmp_path, port) == 0

    assert capfd.readouterr().out == "hello, you asked question"


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("program", "code"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_commands(program: str, code: int, port: int, tmp_path: Path) -> None:
    assert run(["sh", "-c", program], tmp_path, port) == code
    assert not (tmp_path / "problem").exists()


@pytest.mark.usefixtures("database")
def test_the_command_runs_in_the_folder(port: int, tmp_path: Path) -> None:
    run(["touch", "here"], tmp_path, port)

    assert (tmp_path / "here").exists()


def test_without_a_database_nothing_runs_and_its_address_is_told(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["touch", "here"], tmp_path, port, seconds=0.2) == 69

    problem = f"no answer from mysql (127.0.0.2:{port}, 127.0.0.1:{port})"
    assert capfd.readouterr().err.splitlines()[-1] == f"no verdict on the commit: {problem}"
    assert (tmp_path / "problem").read_text() == problem
    assert not (tmp_path / "here").exists()


def run_while_it_stops(database: Database, folder: Path, port: int, *, code: int) -> int:
    """Run a command that ends with this code after its database has stopped."""
    os.mkfifo(folder / "stopped")

    def stop() -> None:
        # Opening it waits for the command, which has begun then.
        with (folder / "stopped").open("w"):
            database.stop()

    threading.Thread(target=stop, daemon=True).start()
    return run(["sh", "-c", f"cat stopped; exit {code}"], folder, port)


def test_a_command_that_fails_without_its_database_is_told_apart(
    port: int, tmp_path: Path, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_while_it_stops(database, tmp_path, port, code=1) == 69

    problem = f"no answer any more from mysql (127.0.0.2:{port}, 127.0.0.1:{port})"
    assert capfd.readouterr().err.splitlines()[-1] == f"no verdict on the commit: {problem}"
    assert (tmp_path / "problem").read_text() == problem


def test_a_command_that_passes_needs_its_database_no_more(port: int, tmp_path: Path, database: Database) -> None:
    assert run_while_it_stops(database, tmp_path, port, code=0) == 0

    assert not (tmp_path / "problem").exists()


def test_only_the_databases_that_are_silent_are_named() -> None:
    databases = [script.Database("mysql", "m", 3306, b""), script.Database("postgres", "p", 5432, b"")]

    assert script.describe([("p", 5432)], databases) == "postgres (p:5432)"
    assert script.describe([("m", 3306), ("p", 5432)], databases) == "mysql and postgres (m:3306, p:5432)"


def test_a_forwarder_that_accepts_without_a_database_is_no_answer(port: int) -> None:
    with script.Forwarder(port, "127.0.0.2") as forwarder:
        assert script.speaks(("127.0.0.1", port), b"") is False
        forwarder.shutdown()


def test_the_command_line_says_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-I", script.__file__ or "", "--help"], capture_output=True, text=True, check=True
    )
    assert "--folder" in done.stdout
