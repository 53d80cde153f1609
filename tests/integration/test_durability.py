"""Every 202 follows a sync of the disk that covers its row: seen from outside, by strace on the real process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.journals import guid, payload_of_push
from tests.support.needs import lacking
from tests.support.planes import Planes
from tests.support.straces import LONGEST_TEXT, TRACED, Call, answers, read_calls, uncovered

pytestmark = pytest.mark.acceptance
STRACE = shutil.which("strace")
SERVE = (sys.executable, "-m", "receiver", "serve")
VOLATILE = (sys.executable, "-m", "tests.support.volatile_serve")


@pytest.fixture(autouse=True)
def _strace_is_here() -> None:
    if STRACE is None:
        lacking("strace is not installed, so nothing can be seen of the system calls")


def deliver_under_strace(folder: Path, command: Sequence[str]) -> tuple[list[Call], list[str]]:
    """Start a plane under strace, deliver pushes one by one and many at once; return its system calls and the GUIDs."""
    planes = Planes.prepare(folder / "receiver", kubeconfig=folder / "none", namespace="striv-ci")
    done = planes.command("journal", "migrate")
    assert done.returncode == 0, done.stderr
    trace = folder / "trace"
    traced = [str(STRACE), "-f", "-y", "-s", str(LONGEST_TEXT), "-e", f"trace={TRACED}", "-e", "signal=none"]
    with (planes.folder / "serve.log").open("wb") as log:
        planes.processes["serve"] = subprocess.Popen(
            [*traced, "-o", str(trace), *command], env=planes.environment, stdout=log, stderr=log
        )
    try:
        planes.wait_ready("serve", seconds=30)
        guids = [guid() for _ in range(30)]
        for number in range(6):
            assert push(planes, number, guids[number]) == 202
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda number: push(planes, number, guids[number]), range(6, 30)))
        assert statuses == [202] * 24
    finally:
        stop(planes)
    return read_calls(trace.read_text(errors="replace").splitlines()), guids


def push(planes: Planes, number: int, delivery: str) -> int:
    body = payload_of_push(str(number), pushed_at=None)
    return planes.push(body, delivery, timeout=30).status_code


def stop(planes: Planes) -> None:
    """End the traced process; strace itself passes no signal on, and ends with the last process it watches."""
    strace = planes.processes.pop("serve")
    children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGTERM)
    strace.wait(30)


def test_every_202_follows_a_sync_that_covers_its_row(tmp_path: Path) -> None:
    calls, guids = deliver_under_strace(tmp_path, SERVE)
    answered = answers(calls, guids, status=202)
    assert answered.keys() == set(guids)
    assert uncovered(calls, answered, wal="journal.db-wal") == set()


def test_the_same_look_at_a_plane_that_does_not_sync_finds_every_202_uncovered(tmp_path: Path) -> None:
    calls, guids = deliver_under_strace(tmp_path, VOLATILE)
    answered = answers(calls, guids, status=202)
    assert answered.keys() == set(guids)
    assert uncovered(calls, answered, wal="journal.db-wal") == set(guids)
