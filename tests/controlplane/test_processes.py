"""Processes end with their owner, and stopping them works on the stubborn ones too."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.processes import PORTS, Component, command_of, free_ports, occupied
from tests.support.waiting import NotReadyError, wait_until

ROOT = Path(__file__).resolve().parents[2]
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True:
    signal.pause()
"""
OWNER = """
import sys
from pathlib import Path
from tests.controlplane.processes import Component, Watchdog
watchdog = Watchdog()
for name in ("first", "second"):
    log = Path(sys.argv[1]) / f"{name}.log"
    component = Component(name, ["/bin/sleep", "600"], log=log, watchdog=watchdog)
    component.start()
    print(component.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[Component]:
    component = Component("stubborn", [sys.executable, "-c", STUBBORN], log=tmp_path / "stubborn.log")
    component.start()
    wait_until(lambda: "deaf" in component.log_text(), what="the handler")
    yield component
    component.kill()
    component.wait_ended()


def test_components_die_when_their_owner_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout
        pids = [int(owner.stdout.readline()) for _ in range(2)]
        wait_until(lambda: {command_of(pid) for pid in pids} == {"/bin/sleep"}, what="the components to run")
        owner.kill()

    wait_until(lambda: not any(map(command_of, pids)), what="the components to die")


def test_a_component_that_ignores_its_stop_signal_is_killed(stubborn: Component) -> None:
    stubborn.stop(seconds=0.2)

    assert not stubborn.running()


def test_a_stopped_component_starts_again_with_a_new_log_to_read(stubborn: Component) -> None:
    stubborn.kill(signal.SIGKILL)
    stubborn.wait_ended()
    stubborn.command[-1] = "print('again')"

    stubborn.start()
    stubborn.wait_ended()

    assert stubborn.log_text() == "again\n"
    assert stubborn.log.read_text() == "deaf\nagain\n"


def test_a_pid_that_now_belongs_to_another_program_is_left_alone(stubborn: Component, tmp_path: Path) -> None:
    remembered = Component("etcd", ["/usr/bin/etcd"], log=tmp_path / "etcd.log", pid=stubborn.pid)

    remembered.kill()

    assert not remembered.running()
    assert stubborn.running()


def test_ports_are_distinct_free_and_never_given_to_outgoing_connections() -> None:
    ports = free_ports(["a", "b", "c"])

    assert len(set(ports.values())) == 3
    assert all(port in PORTS for port in ports.values())
    for port in ports.values():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_an_occupied_port_is_free_again_afterwards() -> None:
    port = free_ports(["p"])["p"]

    with occupied(port), socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", port))

    with socket.socket() as other:
        other.bind(("", port))


def test_waiting_names_what_did_not_come() -> None:
    with pytest.raises(NotReadyError, match="gave up waiting for spring after 0 s"):
        wait_until(lambda: None, what="spring", seconds=0)
