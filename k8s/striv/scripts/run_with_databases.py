# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Run a command with the run's databases at 127.0.0.1 as well, where most branches of Striv expect them.

Forwards 127.0.0.1:3306 and 127.0.0.1:5432 to the run's Services while the command runs, and exits as it does. The databases
are ready before (the task deploy-test-dependencies sees to that); what may lag is their Services on this node, so the command
starts when both answer at all four addresses. They are asked to speak, because a forwarder accepts a connection
before it has one to the database.

A command that fails says nothing about the commit when a database has gone meanwhile: then, and when one never answered, it
exits with 69 and its last line, also stored as the result `problem`, names the database.
"""

import argparse
import contextlib
import dataclasses
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

POSTGRES_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
ANSWER_SECONDS = 2
AGAIN_SECONDS = 5
CHUNK_BYTES = 65536
UNAVAILABLE = 69
"""EX_UNAVAILABLE of sysexits.h. pytest's own codes end at 5."""

Address = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Database:
    """Where a database of the run is, and what makes it speak."""

    name: str
    host: str
    port: int
    greeting: bytes


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy one direction until its end, and pass the end on."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Forwarder(socketserver.ThreadingTCPServer):
    """Listens at a port of the loopback address and leads each connection to the same port of the target."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, target: str) -> None:
        super().__init__(("127.0.0.1", port), ForwardedConnection)
        self.far_address = (target, port)
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()


class ForwardedConnection(socketserver.BaseRequestHandler):
    """One connection through a forwarder."""

    server: Forwarder

    def handle(self) -> None:
        """Copy both ways until both have ended."""
        try:
            far = socket.create_connection(self.server.far_address)
        except OSError as error:
            print(f"{self.server.far_address} cannot be reached: {error}", file=sys.stderr, flush=True)
            return
        with far:
            back = threading.Thread(target=pump, args=[far, self.request], daemon=True)
            back.start()
            pump(self.request, far)
            back.join()


def speaks(address: Address, greeting: bytes) -> bool:
    """Tell whether a database answers there; MySQL greets by itself, PostgreSQL after a request."""
    try:
        with socket.create_connection(address, timeout=ANSWER_SECONDS) as connection:
            connection.sendall(greeting)
            return bool(connection.recv(1))
    except OSError:
        return False


def wait_until_all_speak(greetings: dict[Address, bytes], seconds: float) -> list[Address]:
    """Return the addresses that have not answered when time is up; none, as soon as all have."""
    end = time.monotonic() + seconds
    pause_seconds = 0.05
    silent = list(greetings)
    while silent := [address for address in silent if not speaks(address, greetings[address])]:
        if time.monotonic() > end:
            break
        time.sleep(pause_seconds)
        pause_seconds = min(1.0, pause_seconds * 2)
    return silent


def describe(silent: list[Address], databases: list[Database]) -> str:
    """Name the databases behind these addresses, with the addresses."""
    names = [database.name for database in databases if database.port in {port for _, port in silent}]
    return f"{' and '.join(names)} ({', '.join(f'{host}:{port}' for host, port in silent)})"


def run(
    command: list[str], *, folder: Path, databases: list[Database], seconds: float, again_seconds: float, problem: Path
) -> int:
    """Forward, wait, run the command in the folder, and return its exit code as a shell would.

    UNAVAILABLE, with the reason in the file `problem`, when a database does not answer within `seconds` before or
    `again_seconds` after a command that failed.
    """

    def give_up(reason: str) -> int:
        problem.write_text(reason)
        print(f"no verdict on the commit: {reason}", file=sys.stderr, flush=True)
        return UNAVAILABLE

    everywhere = {(host, each.port): each.greeting for each in databases for host in (each.host, "127.0.0.1")}
    with contextlib.ExitStack() as stack:
        for database in databases:
            forwarder = stack.enter_context(Forwarder(database.port, database.host))
            stack.callback(forwarder.shutdown)
        if silent := wait_until_all_speak(everywhere, seconds):
            return give_up(f"no answer from {describe(silent, databases)}")
        code = subprocess.run(command, cwd=folder, check=False).returncode
        if code and (silent := wait_until_all_speak(everywhere, again_seconds)):
            return give_up(f"no answer any more from {describe(silent, databases)}")
    return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Read the command line; the run's uid and the result's file are in the environment."""
    parser = argparse.ArgumentParser(description="Run a command with the run's databases at 127.0.0.1.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="how long to wait for all addresses")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    uid = os.environ["PIPELINE_RUN_UID"]
    return run(
        given.command,
        folder=given.folder,
        databases=[
            Database("mysql", f"mysql-{uid}", 3306, b""),
            Database("postgres", f"postgres-{uid}", 5432, POSTGRES_SSL_REQUEST),
        ],
        seconds=given.seconds,
        again_seconds=AGAIN_SECONDS,
        problem=Path(os.environ["PROBLEM_RESULT"]),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
