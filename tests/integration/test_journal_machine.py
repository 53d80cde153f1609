"""The promise of the whole, under every order of events that a machine can think of: never lost, never doubled.

`MACHINE_EXAMPLES=2000 make test ARGS=tests/integration/test_journal_machine.py` looks longer.
"""

from __future__ import annotations

import functools
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.support.journals import opened
from tests.support.machine import Machine, play


@functools.cache
def empty_journal() -> bytes:
    """A journal of this version, made once, since each example needs a fresh one."""
    with tempfile.TemporaryDirectory() as folder:
        with opened(Path(folder)):
            pass
        return (Path(folder) / "journal.db").read_bytes()


class OnSqlite(Machine):
    def open_journal(self) -> AbstractContextManager[Engine]:
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "journal.db").write_bytes(empty_journal())
        return opened(folder, migrated=False)


@pytest.mark.parametrize("machine", [OnSqlite])
def test_whatever_happens_nothing_acknowledged_is_lost_and_nothing_runs_twice(machine: type[Machine]) -> None:
    play(machine, examples=60)
