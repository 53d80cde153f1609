"""A bench for each test, and a follower that loses no time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.following import Bench
from tests.support.journals import opened
from tests.support.watch_server import watch_server

UNFORESEEN = "following failed in an unforeseen way"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Bench]:
    """A bench whose follower takes short breaths; at its end nothing unforeseen may have happened but what a test says."""
    monkeypatch.setattr("receiver.work.follow._BREATH_SECONDS", 0.05)
    monkeypatch.setattr("receiver.work.follow._TICK_SECONDS", 0.05)
    with watch_server() as server, opened(tmp_path) as engine:
        bench = Bench(engine, server, tmp_path)
        yield bench
        bench.close()
    messages = [record.message for record in caplog.get_records("call")]
    assert (UNFORESEEN in messages) == bench.unforeseen


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended and belongs to no job that has begun is looked into at once."""
    monkeypatch.setattr("receiver.work.follow._PATIENCE_SECONDS", 0.0)
