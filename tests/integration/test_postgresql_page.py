"""docs/operations.md, PostgreSQL is away: what it asks the server as the receiver's roles is answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.guide import filled_in, run
from tests.support.operations import commands
from tests.support.postgres import OWNER, SERVE, Database

ANSWERS = {SERVE: "pg_is_in_recovery", OWNER: "wait_event"}


@pytest.mark.parametrize("role", ANSWERS)
def test_the_pages_question_is_answered_to_the_role_that_it_names(
    database: Database, role: str, tmp_path: Path
) -> None:
    (question,) = [command for command in commands("PostgreSQL is away") if f"user={role}" in command]
    server = database.server
    environment = {
        "PATH": f"{server.programs}{os.pathsep}{os.environ['PATH']}",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.password,
    }
    here = {"host=HOST": "host=127.0.0.1", "dbname=receiver": f"dbname={database.name}"}

    said = run(filled_in(question, here), folder=tmp_path, environment=environment)

    assert ANSWERS[role] in said
    assert "(0 rows)" not in said
