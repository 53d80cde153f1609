"""How long the private plane sleeps on after a commit of the public plane: two processes that meet in the journal alone.

`python -m bench.wake URL` is the private plane's half: it waits for the alarm, claims, and prints both times.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, cast

import click
from sqlalchemy import URL, Engine
from sqlalchemy.engine import make_url

from bench.measured import Row
from receiver.journal.engine import open_engine
from receiver.journal.intake import Intake
from receiver.journal.jobs import Jobs
from receiver.journal.wake import open_alarm, open_waker
from tests.support.journals import NOW, delivery, opened
from tests.support.postgres import SERVE, WORK, Database, MissingError, PostgreSQL

COMMITS, WARM_UP = 120, 20
PAUSE_SECONDS = 0.02
LOOK_SECONDS = 1.0
"""As the worker looks without being woken: an alarm that is lost shows as a figure, and not as a standstill."""


def waking(folder: Path) -> Iterator[Row]:
    """From the return of a commit, of one push, to the moment the other process runs, and to the one when it holds the job."""
    folder.mkdir(parents=True)
    with opened(folder, durable=True) as engine:
        yield from measured("SQLite", engine, engine.url)
    try:
        with PostgreSQL.started() as server:
            database = Database(server, "receiver")
            with database.engine(SERVE, durable=True) as engine:
                yield from measured("PostgreSQL", engine, database.url(WORK))
    except MissingError as error:
        yield Row(f"wake-up, PostgreSQL: not measured, {error}", float("nan"), "ms")


def measured(name: str, engine: Engine, url: URL) -> Iterator[Row]:
    """Commit pushes one by one, each when the worker sleeps again."""
    committed: list[float] = []
    with closing(open_waker(engine)) as waker:
        intake = Intake(engine, woken=noting(committed, waker.wake))
        command = [sys.executable, "-m", "bench.wake", url.render_as_string(hide_password=False)]
        found: list[tuple[float, float]] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            try:
                lines = cast("IO[str]", worker.stdout)
                lines.readline()
                for number in range(COMMITS):
                    time.sleep(PAUSE_SECONDS)
                    intake.take([delivery(f"wake {number}")])
                    awake, claimed = (float(part) for part in lines.readline().split())
                    found.append((awake - committed[-1], claimed - committed[-1]))
            finally:
                worker.terminate()
    for number, what in enumerate(("the other process runs", "it has claimed the job")):
        seconds = sorted(each[number] for each in found[WARM_UP:])
        detail = f"p90 {seconds[int(len(seconds) * 0.9)] * 1e3:.1f} ms"
        yield Row(f"commit -> {what}, {name}, idle, p50", statistics.median(seconds) * 1e3, "ms", "", detail)


def noting(times: list[float], wake: Callable[[], None]) -> Callable[[], None]:
    """Note when the intake wakes the other plane, which it does as soon as the commit has returned."""

    def woken() -> None:
        # The same clock in all processes of a machine.
        times.append(time.monotonic())
        wake()

    return woken


def work(url: str) -> None:
    """Say so when awake, and when the job is claimed; until SIGTERM."""
    engine = open_engine(make_url(url), durable=False)
    jobs = Jobs(engine)
    with closing(open_alarm(engine)) as alarm:
        jobs.claim(now=NOW, limit=1, lease_seconds=10)
        click.echo("ready")
        while True:
            alarm.wait(LOOK_SECONDS)
            awake = time.monotonic()
            if jobs.claim(now=NOW, limit=1, lease_seconds=10):
                click.echo(f"{awake} {time.monotonic()}")


if __name__ == "__main__":
    work(sys.argv[1])
