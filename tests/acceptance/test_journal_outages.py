"""The journal full, unwritable or locked: refused at once with 503, nothing half-written, and well again by itself."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import requests

from receiver.journal import schema
from tests.controlplane.cluster import ControlPlane
from tests.support.journals import opened, rows
from tests.support.load import new_push, send, send_all
from tests.support.needs import lacking, need_root
from tests.support.planes import Planes
from tests.support.seen import integrity, job_rows, run_names, states
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
Fault = Callable[[Planes], AbstractContextManager[None]]
AT_ONCE_SECONDS = 4.0
"""The busy time-out of 1.5 s, once for the batch before and once for the own; and the machine is busy too."""


@contextmanager
def files_that_cannot_grow(planes: Planes) -> Iterator[None]:
    """No plane may write a file beyond the length that the journal's log has now."""
    size = max(file.stat().st_size for file in planes.folder.glob("journal.db*"))
    with limited(planes, max(size, *(file.stat().st_size for file in planes.folder.glob("*.log")))):
        yield


@contextmanager
def files_that_take_no_byte(planes: Planes) -> Iterator[None]:
    """No plane may write to any file, wherever in it."""
    with limited(planes, 0):
        yield


@contextmanager
def limited(planes: Planes, size_bytes: int) -> Iterator[None]:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for process in planes.processes.values():
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
        yield
    finally:
        for process in planes.processes.values():
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def immutable_files(planes: Planes) -> Iterator[None]:
    """What the kernel answers to a write is what it answers on a file system that has turned read-only: it refuses."""
    files = [str(file) for file in planes.folder.glob("journal.db*") if not file.is_socket()]
    subprocess.run(["chattr", "+i", *files], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


@contextmanager
def full_disk(planes: Planes) -> Iterator[None]:
    """The file system of the journal has no block left."""
    ballast = planes.folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def locked(planes: Planes) -> Iterator[None]:
    """Somebody else holds the write lock, and does not let go."""
    with opened(planes.folder, migrated=False) as engine, engine.begin():
        yield


FAULTS = [
    pytest.param(files_that_cannot_grow, id="files cannot grow"),
    pytest.param(files_that_take_no_byte, id="no write succeeds"),
    pytest.param(full_disk, id="disk full"),
    pytest.param(immutable_files, id="files immutable"),
    pytest.param(locked, id="locked"),
]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The receiver's folder; on a disk of 3 MB where it is to be filled."""
    folder = tmp_path / "receiver"
    folder.mkdir()
    fault = request.node.callspec.params["fault"]
    if fault is immutable_files:
        need_root("make a file immutable")
        probe = tmp_path / "probe"
        probe.touch()
        attempt("chattr", "+i", str(probe))
        attempt("chattr", "-i", str(probe))
    if fault is not full_disk:
        yield folder
        return
    need_root("mount a small disk")
    attempt("mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def attempt(*command: str) -> None:
    """Run what even root may not do in a container or on some file systems."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lacking(f"{' '.join(command[:2])} is not possible here: {error.stderr.strip()}")


def readiness(planes: Planes) -> int:
    return requests.get(f"http://127.0.0.1:{planes.port}/readyz", timeout=10).status_code


@pytest.mark.parametrize("fault", FAULTS)
def test_a_journal_that_takes_no_writes_refuses_at_once_and_recovers_by_itself(
    control_plane: ControlPlane, run_namespace: str, folder: Path, fault: Fault
) -> None:
    planes = Planes.prepare(folder, kubeconfig=control_plane.kubeconfig, namespace=run_namespace)
    try:
        planes.start()
        before = [new_push(f"before {number}") for number in range(3)]
        send_all(planes, before)
        wait_until(lambda: states(planes)["finished"] == len(before), what="the outcomes", seconds=30)
        stored = deliveries(planes)
        refused = [new_push(f"refused {number}") for number in range(8)]
        with fault(planes):
            began = time.monotonic()
            answer = planes.push(refused[0].body, refused[0].guid)
            assert time.monotonic() - began < AT_ONCE_SECONDS
            assert (answer.status_code, answer.json()["error"]) == (503, "journal")
            assert int(answer.headers["Retry-After"]) > 0
            assert readiness(planes) == 503
            send_all(planes, refused, senders=len(refused))
            assert {tuple(pushed.statuses) for pushed in refused} == {(503,)}
            assert max(seconds for pushed in refused for seconds in pushed.seconds) < AT_ONCE_SECONDS
        wait_until(lambda: readiness(planes) == 200, what="the public plane to be ready", seconds=10)
        assert deliveries(planes) == stored
        after = [*refused, new_push("after")]
        assert [send(planes, pushed) for pushed in after] == [202] * len(after)
        everything = {name for pushed in [*before, *after] for name in pushed.runs}
        wait_until(lambda: run_names(control_plane.api, run_namespace) == everything, what="all runs", seconds=30)
        wait_until(lambda: states(planes) == {"finished": len(everything)}, what="all outcomes", seconds=60)
        assert len(job_rows(planes)) == len(before) + len(after)
        assert integrity(planes) == "ok"
    finally:
        planes.stop()


def deliveries(planes: Planes) -> list[str]:
    """The ids of all that is stored as a delivery: the readiness check leaves nothing there."""
    with opened(planes.folder, migrated=False) as engine:
        return [row["guid"] for row in rows(engine, schema.deliveries)]
