"""The promise of the whole on PostgreSQL, played by the same machine as on SQLite.

`MACHINE_EXAMPLES=500 make test ARGS=tests/integration/test_postgresql_machine.py` looks longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Engine

from tests.support.machine import Machine, play
from tests.support.postgres import OWNER, PostgreSQL


def test_whatever_happens_nothing_acknowledged_is_lost_and_nothing_runs_twice_on_postgresql(
    postgresql: PostgreSQL,
) -> None:
    @contextmanager
    def opened() -> Iterator[Engine]:
        with postgresql.database() as database, database.engine(OWNER) as engine:
            yield engine

    class OnPostgreSQL(Machine):
        def open_journal(self) -> AbstractContextManager[Engine]:
            return opened()

    play(OnPostgreSQL, examples=12)
