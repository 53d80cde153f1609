"""`max_active`: a flood of pushes never has more runs at once than allowed, branches take turns, and all run in the end."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.controlplane import pods
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.support.fail_points import EXIT_CODE, WORK, through
from tests.support.load import Pushed, new_push, send_all
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.seen import job_rows, run_names, runs, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
MOST = 3
BRANCHES = 5
PUSHES = 30


class Sampler:
    """Counts all the time how many runs are not done."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")
        self.most = 0
        self.samples = 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.most = max(self.most, len(active(self._api, self._namespace)))
            self.samples += 1

    @contextmanager
    def sampling(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()


def active(api: Api, namespace: str) -> list[str]:
    """The names of the runs that are not done."""
    return [
        run["metadata"]["name"]
        for run in runs(api, namespace)
        if pods.succeeded(run).get("status") not in ("True", "False")
    ]


def bounded(planes: Planes) -> None:
    """Let the trigger have no more than MOST runs at once."""
    file = planes.folder / "receiver.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["triggers"][0]["max_active"] = MOST
    file.write_text(yaml.safe_dump(settings, sort_keys=False))


def flood() -> list[Pushed]:
    """All pushes of the first branch come first, then all of the next: the worst order to be fair in."""
    each = PUSHES // BRANCHES
    return [
        new_push(f"{branch}/{number}", branch=f"branch-{branch}")
        for branch in range(BRANCHES)
        for number in range(each)
    ]


@pytest.fixture
def planes(control_plane: ControlPlane, run_namespace: str, tmp_path: Path) -> Iterator[Planes]:
    prepared = Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=control_plane.kubeconfig,
        namespace=run_namespace,
        changes={"work": {"lease_seconds": 1}},
    )
    bounded(prepared)
    simplify(prepared)
    make_pipeline(control_plane.api, run_namespace)
    yield prepared
    prepared.stop()


def test_no_more_runs_than_allowed_at_once_and_branches_take_turns(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    api = control_plane.api
    sampler = Sampler(api, run_namespace)
    planes.start("serve")
    sent = flood()
    send_all(planes, sent, senders=1)
    with sampler.sampling():
        planes.start("work")
        finish_all(api, run_namespace, len(sent))
    assert sampler.samples > PUSHES
    assert sampler.most == MOST
    wait_until(lambda: states(planes)["finished"] == len(sent), what="all outcomes", seconds=30)
    assert run_names(api, run_namespace) == {name for pushed in sent for name in pushed.runs}
    in_order = sorted(job_rows(planes), key=lambda job: (job["started_at"], job["id"]))
    turns = [job["ref"] for job in in_order]
    # While all branches have something left, no branch is ahead of another by more than what runs at once.
    for position in range(len(turns) - BRANCHES):
        served = [turns[: position + 1].count(f"refs/heads/branch-{branch}") for branch in range(BRANCHES)]
        assert max(served) - min(served) <= MOST


def finish_all(api: Api, namespace: str, expected: int) -> None:
    """Play the kubelet until so many runs are done."""
    done = 0
    with ThreadPoolExecutor(MOST) as pool:
        while done < expected:
            waiting = wait_until(lambda: active(api, namespace), what=f"a run after {done}", seconds=30)
            done += len(list(pool.map(lambda name: pods.finish_run(api, namespace, name), waiting)))


def test_no_kill_of_the_worker_lets_one_run_more_start(
    control_plane: ControlPlane, run_namespace: str, planes: Planes
) -> None:
    """Killed at each of its fail points in turn, while runs are there and while room for the next appears."""
    api = control_plane.api
    sampler = Sampler(api, run_namespace)
    planes.start("serve")
    sent = flood()[:: PUSHES // 15]
    send_all(planes, sent, senders=1)
    chance = random.Random(4)
    with sampler.sampling():
        for point in WORK:
            planes.launch("work", through=through(point))
            while planes.processes["work"].poll() is None:
                for name in active(api, run_namespace):
                    if chance.random() < 0.3:
                        pods.finish_run(api, run_namespace, name)
            assert planes.processes.pop("work").returncode == EXIT_CODE
        planes.start("work")
        finish_all(api, run_namespace, len(sent) - sum(1 for _ in done(api, run_namespace)))
    assert sampler.most == MOST
    wait_until(lambda: states(planes)["finished"] == len(sent), what="all outcomes", seconds=60)
    assert run_names(api, run_namespace) == {name for pushed in sent for name in pushed.runs}


def done(api: Api, namespace: str) -> Iterator[str]:
    """The names of the runs that are done."""
    open_ones = set(active(api, namespace))
    yield from (name for name in run_names(api, namespace) if name not in open_ones)
