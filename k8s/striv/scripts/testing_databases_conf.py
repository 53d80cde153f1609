# ruff: noqa: INP001, T201 - pods mount single files, whose output is the task's log
"""Write testing-databases.json: a list of [driver, connection arguments], as Striv's test/rdbm_support.py reads it."""

import json
import os
import sys
from pathlib import Path

Connection = tuple[str, dict[str, str | bool]]


def connections(*, uid: str, password: str) -> list[Connection]:
    """Name this run's databases. PostgreSQL's driver calls the database `dbname`, the others `database`."""
    return [
        ("sqlite", {"database": ":memory:"}),
        (
            "mysql",
            {
                "host": f"mysql-{uid}",
                "user": "root",
                "password": password,
                "database": "striv_test",
                "create_database": True,
            },
        ),
        (
            "postgres",
            {
                "host": f"postgres-{uid}",
                "user": "striv",
                "password": password,
                "dbname": "striv_test",
                "create_database": True,
            },
        ),
    ]


def main(path: Path) -> None:
    """Write the file anew: the commit may hold one of its own, or a link."""
    path.unlink(missing_ok=True)
    content = connections(uid=os.environ["PIPELINE_RUN_UID"], password=os.environ["DATABASE_PASSWORD"])
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"wrote {path.name}: " + ", ".join(driver for driver, _ in content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
