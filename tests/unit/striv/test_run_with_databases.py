"""The command that runs with its databases at the loopback address, with real sockets."""

import contextlib
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
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


def run(command: list[str], folder: Path, port: int, *, seconds: float = 5) -> int:
    """Run a command with one forwarder."""
    code: int = script.run(command, folder=folder, targets={port: "127.0.0.2"}, greetings={port: b""}, seconds=seconds)
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


@pytest.mark.usefixtures("database")
def test_the_command_runs_in_the_folder(port: int, tmp_path: Path) -> None:
    run(["touch", "here"], tmp_path, port)

    assert (tmp_path / "here").exists()


def test_without_a_database_nothing_runs_and_its_address_is_told(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["touch", "here"], tmp_path, port, seconds=0.2) == 1

    assert f"no database answers at 127.0.0.2:{port}, 127.0.0.1:{port}" in capfd.readouterr().err
    assert not (tmp_path / "here").exists()


def test_a_forwarder_that_accepts_without_a_database_is_no_answer(port: int) -> None:
    with script.Forwarder(port, "127.0.0.2") as forwarder:
        assert script.speaks(("127.0.0.1", port), b"") is False
        forwarder.shutdown()


def test_the_command_line_says_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-I", script.__file__ or "", "--help"], capture_output=True, text=True, check=True
    )
    assert "--folder" in done.stdout
