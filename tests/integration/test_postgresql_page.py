"""docs/operations.md, PostgreSQL is away: what it asks the server is answered, and the answer holds what it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.guide import filled_in, run
from tests.support.operations import commands
from tests.support.postgres import SERVE, WORK, Database


def answer(database: Database, user: str, folder: Path, **instead: str) -> str:
    """Type the page's command that asks as this user."""
    (question,) = [command for command in commands("PostgreSQL is away") if f"user={user} " in command]
    server = database.server
    environment = {
        "PATH": f"{server.programs}{os.pathsep}{os.environ['PATH']}",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.password,
    }
    here = {"host=HOST": "host=127.0.0.1", "dbname=receiver": f"dbname={database.name}", **instead}
    return run(filled_in(question, here), folder=folder, environment=environment)


def test_the_public_planes_role_is_told_whether_the_server_takes_writes(database: Database, tmp_path: Path) -> None:
    said = answer(database, SERVE, tmp_path)

    assert [cell.strip() for cell in said.splitlines()[2].split("|")] == ["f", "1"]


def test_the_administrator_sees_a_transaction_that_a_plane_left_open(database: Database, tmp_path: Path) -> None:
    with database.connection(WORK) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT version FROM journal FOR UPDATE")
        said = answer(database, "postgres", tmp_path, **{"user=postgres": "user=admin"})

    (line,) = [line for line in said.splitlines() if f"| {WORK} " in line]
    assert "idle in transaction" in line
    assert "SELECT version FROM journal" in line
