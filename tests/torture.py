"""Random SIGKILLs under load, on real processes and a real API server: nothing acknowledged is lost, nothing runs twice.

python -m tests.torture --kills 1000 [--seed 7]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from receiver.journal.schema import FINISHED, STARTED, WAITING
from tests.controlplane import programs
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fixtures import make_namespace
from tests.support.load import STORED, Pushed, Senders, send_all
from tests.support.planes import Planes
from tests.support.seen import KEY, integrity, job_rows, postponements, runs, states, steps
from tests.support.waiting import NotReadyError, wait_until

NAMESPACE = "torture"
SHORT_LEASES = {"work": {"lease_seconds": 2}}
"""So that a killed worker's jobs are taken over about as often as workers are killed."""
BRANCHES = tuple(f"branch-{number}" for number in range(8))
_TARGETS = (("serve",), ("work",), ("serve", "work"))
_DELIVERIES_PER_KILL = 12
_SETTLE_SECONDS = 300.0


@dataclass(frozen=True)
class Report:
    """What was done and seen."""

    kills: int
    pushes: int
    acknowledged_under_fire: int
    unanswered: int
    redeliveries: int
    runs: int
    postponed: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s: {self.pushes} pushes, {self.acknowledged_under_fire} acknowledged"
            f" meanwhile, {self.unanswered} deliveries without an answer, {self.redeliveries} redeliveries, {self.runs} runs,"
            f" {sum(self.postponed.values())} of them put off at first {self.postponed or ''}"
        )


def torture(
    planes: Planes, api: Api, namespace: str, *, kills: int, seed: int, say: Callable[[str], None], senders: int = 4
) -> Report:
    """Kill `kills` times under load, then redeliver everything and compare; raises AssertionError for whatever is wrong."""
    began = time.monotonic()
    chance = random.Random(seed)
    planes.start()
    with Senders(planes, senders=senders, branches=BRANCHES, seed=seed) as load:
        for number in range(1, kills + 1):
            load.allow(_DELIVERIES_PER_KILL)
            _kill_once(planes, chance)
            if number % 10 == 0 or number == kills:
                say(f"{number} of {kills} kills, {len(load.pushes)} pushes, {time.monotonic() - began:.0f} s")
    for plane in ("serve", "work"):
        planes.wait_ready(plane, seconds=60)
    acknowledged = [pushed for pushed in load.pushes if pushed.acknowledged]
    unanswered = sum(pushed.statuses.count(0) for pushed in load.pushes)
    # Before anything is redelivered: what was acknowledged has to be there by itself.
    kept = {job["run_name"] for job in job_rows(planes)}
    lost = [pushed.guid for pushed in acknowledged if not pushed.runs <= kept]
    assert lost == [], f"acknowledged and not in the journal: {lost}"
    send_all(planes, load.pushes)
    say("everything redelivered; waiting for the last outcome")
    _wait_settled(planes, len(load.pushes))
    _compare(planes, api, namespace, load.pushes)
    return Report(
        kills=kills,
        pushes=len(load.pushes),
        acknowledged_under_fire=len(acknowledged),
        unanswered=unanswered,
        redeliveries=load.redeliveries + len(load.pushes),
        runs=len(runs(api, namespace)),
        postponed=dict(postponements(planes)),
        seconds=time.monotonic() - began,
    )


def _kill_once(planes: Planes, chance: random.Random) -> None:
    """Let some planes live for a random time, the start sometimes included, kill them, and start them again."""
    targets = chance.choice(_TARGETS)
    if chance.random() < 0.75:
        for plane in targets:
            planes.wait_ready(plane, seconds=60)
    time.sleep(chance.uniform(0.0, 0.7))  # the random time itself: any moment of a life may be the last
    for plane in targets:
        planes.kill(plane)
    for plane in targets:
        planes.launch(plane)


def _wait_settled(planes: Planes, expected: int) -> None:
    """Wait until every job has an outcome."""
    try:
        wait_until(
            lambda: states(planes)["finished"] == expected,
            what=f"{expected} outcomes",
            seconds=_SETTLE_SECONDS + expected / 5,
            every=0.5,
        )
    except NotReadyError as error:
        raise AssertionError(f"{error}: {dict(states(planes))}") from error


def _compare(planes: Planes, api: Api, namespace: str, pushes: list[Pushed]) -> None:
    """Raise AssertionError unless each push has exactly one run, and the journal is sound and says so."""
    silent = [pushed.guid for pushed in pushes if pushed.statuses[-1] not in STORED]
    assert silent == [], f"not taken over in peace: {silent}"
    several = [pushed.guid for pushed in pushes if len(pushed.runs) != 1]
    assert several == [], f"answered with several run names: {several}"
    found = runs(api, namespace)
    keys = Counter(run["metadata"]["annotations"][KEY] for run in found)
    assert set(keys.values()) == {1}, f"several runs of one job: {keys.most_common(3)}"
    expected = {name for pushed in pushes for name in pushed.runs}
    assert {run["metadata"]["name"] for run in found} == expected
    assert integrity(planes) == "ok"
    taken = steps(planes)
    assert set(taken.values()) == {1}, f"a step was recorded twice: {taken.most_common(3)}"
    ways = Counter((before, after) for _, before, after in taken)
    # A busy API server may ask for patience, or not answer in time: that is noted, once for each job.
    ways.pop((WAITING, WAITING), None)
    assert ways == dict.fromkeys([("", WAITING), (WAITING, STARTED), (STARTED, FINISHED)], len(pushes))


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="how often to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="what chance begins with")
    parser.add_argument("--senders", type=int, default=4, help="senders at the same time (default: %(default)s)")
    options = parser.parse_args()
    click.echo(f"seed {options.seed}")
    using = programs.ensure()
    with (
        tempfile.TemporaryDirectory(prefix="torture-") as folder,
        ControlPlane.start(Path(folder) / "controlplane", using=using) as control_plane,
    ):
        api = control_plane.api
        make_namespace(api, NAMESPACE)
        planes = Planes.prepare(
            Path(folder) / "receiver", kubeconfig=control_plane.kubeconfig, namespace=NAMESPACE, changes=SHORT_LEASES
        )
        how = {"kills": options.kills, "seed": options.seed, "senders": options.senders}
        try:
            report = torture(planes, api, NAMESPACE, say=click.echo, **how)
        finally:
            planes.stop()
    click.echo(f"nothing lost, nothing doubled: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
