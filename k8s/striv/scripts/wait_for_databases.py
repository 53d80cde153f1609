# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Wait until both databases of the run answer at every address that a test may use.

They are ready already (the task deploy-test-dependencies saw to that); what may lag is their Services on this node and
the forwarders. Both are asked to speak, because a forwarder accepts a connection before it has one to the database.
"""

import argparse
import os
import socket
import sys
import time

POSTGRES_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def speaks(host: str, port: int, greeting: bytes) -> bool:
    """Tell whether a database answers there; MySQL greets by itself, PostgreSQL after a request."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(greeting)
            return bool(connection.recv(1))
    except OSError:
        return False


def main(arguments: list[str]) -> None:
    """Return when all four addresses answer; exit with the missing ones when time is up."""
    parser = argparse.ArgumentParser(description="Wait until both databases answer at every address.")
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args(arguments)
    uid = os.environ["PIPELINE_RUN_UID"]
    waiting = [
        (f"mysql-{uid}", 3306, b""),
        (f"postgres-{uid}", 5432, POSTGRES_SSL_REQUEST),
        ("127.0.0.1", 3306, b""),
        ("127.0.0.1", 5432, POSTGRES_SSL_REQUEST),
    ]
    end = time.monotonic() + given.seconds
    pause_seconds = 0.05
    while waiting := [address for address in waiting if not speaks(*address)]:
        if time.monotonic() > end:
            sys.exit("no database answers at " + ", ".join(f"{host}:{port}" for host, port, _ in waiting))
        time.sleep(pause_seconds)
        pause_seconds = min(1.0, pause_seconds * 2)
    print("both databases answer")


if __name__ == "__main__":
    main(sys.argv[1:])
