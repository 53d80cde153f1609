"""The datagram that wakes the other process: at once, and harmless whenever nobody listens."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from receiver.journal.engine import open_engine
from receiver.journal.wake import Alarm, SocketAlarm, SocketWaker, open_alarm, open_waker

FOR_EVER = 3_600.0
GENEROUS = 10.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


class Sleeper:
    """A thread that waits for the alarm for an hour."""

    def __init__(self, alarm: Alarm) -> None:
        self._thread = threading.Thread(target=alarm.wait, args=(FOR_EVER,), daemon=True)
        self._thread.start()

    def woke(self, *, within: float = GENEROUS) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()


@pytest.fixture
def alarm(file: Path) -> Iterator[SocketAlarm]:
    with closing(SocketAlarm(file)) as alarm:
        yield alarm


@pytest.fixture
def waker(file: Path) -> Iterator[SocketWaker]:
    with closing(SocketWaker(file)) as waker:
        yield waker


def test_a_datagram_ends_the_wait(alarm: SocketAlarm, waker: SocketWaker) -> None:
    sleeper = Sleeper(alarm)
    waker.wake()
    assert sleeper.woke()


def test_a_datagram_that_came_before_the_wait_ends_it_too(alarm: SocketAlarm, waker: SocketWaker) -> None:
    waker.wake()
    assert Sleeper(alarm).woke()


def test_ringing_ends_the_wait_from_within(alarm: SocketAlarm) -> None:
    sleeper = Sleeper(alarm)
    alarm.ring()
    assert sleeper.woke()


def test_what_piled_up_is_taken_in_one(alarm: SocketAlarm, waker: SocketWaker) -> None:
    for _ in range(5):
        waker.wake()
        alarm.ring()
    assert Sleeper(alarm).woke()
    # Nothing is left, so this wait ends by the next datagram only.
    sleeper = Sleeper(alarm)
    assert not sleeper.woke(within=0.05)
    waker.wake()
    assert sleeper.woke()


def test_waking_nobody_is_harmless(waker: SocketWaker) -> None:
    waker.wake()


def test_a_listener_that_died_without_a_word_is_harmless_and_can_be_replaced(file: Path, waker: SocketWaker) -> None:
    SocketAlarm(file).close()
    assert Path(f"{file}-wake").exists()
    waker.wake()
    with closing(SocketAlarm(file)) as alarm:
        waker.wake()
        assert Sleeper(alarm).woke()


def test_the_newest_listener_is_woken(file: Path, alarm: SocketAlarm, waker: SocketWaker) -> None:
    with closing(SocketAlarm(file)) as newest:
        waker.wake()
        assert Sleeper(newest).woke()
    alarm.wait(0.0)


def test_a_listener_that_never_reads_blocks_nobody(alarm: SocketAlarm, waker: SocketWaker) -> None:
    def wake_and_ring() -> None:
        for _ in range(5_000):
            waker.wake()
            alarm.ring()

    waking = threading.Thread(target=wake_and_ring, daemon=True)
    waking.start()
    waking.join(GENEROUS)
    assert not waking.is_alive()
    assert Sleeper(alarm).woke()


def test_an_empty_datagram_of_a_stranger_disturbs_nothing(alarm: SocketAlarm, waker: SocketWaker) -> None:
    waker._socket.sendto(b"", waker._folder.address)  # noqa: SLF001 - only somebody else would send it
    assert Sleeper(alarm).woke()
    waker.wake()
    assert Sleeper(alarm).woke()


def test_paths_that_are_too_long_for_sockets_work(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / ("longer" * 30)
    folder.mkdir(parents=True)
    file = folder / "journal.db"
    assert len(str(file)) > 300
    with closing(SocketAlarm(file)) as alarm, closing(SocketWaker(file)) as waker:
        sleeper = Sleeper(alarm)
        waker.wake()
        assert sleeper.woke()


def test_only_the_owner_and_the_group_may_wake(file: Path, alarm: SocketAlarm) -> None:  # noqa: ARG001 - it has to be there
    mode = os.stat(f"{file}-wake").st_mode  # noqa: PTH116 - the mode alone
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_the_ends_of_a_sqlite_journal_meet(file: Path) -> None:
    engine = open_engine(make_url(f"sqlite:///{file}"))
    with closing(open_alarm(engine)) as alarm, closing(open_waker(engine)) as waker:
        waker.wake()
        assert Sleeper(alarm).woke()
    engine.dispose()
