"""Waking the private plane through PostgreSQL, and what becomes of it when the server goes away."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from receiver.errors import JournalError
from receiver.journal.intake import ACCEPTED, Intake
from receiver.journal.notify import NotifyAlarm, NotifyWaker
from receiver.journal.wake import open_alarm, open_waker
from tests.support.journals import delivery, take
from tests.support.postgres import SERVE, WORK, Database, PostgreSQL
from tests.support.waiting import wait_until

LONG = 30.0


def listeners(postgresql: PostgreSQL, database: Database) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE 'LISTEN%%' AND state = 'idle'"
    with postgresql.admin() as connection:
        return int(connection.execute(query, [database.name]).fetchone()[0])  # type: ignore[index]  # count(*) always has a row


@contextmanager
def waiting(alarm: NotifyAlarm, seconds: float = LONG) -> Iterator[Future[float]]:
    """Another thread in `wait`; the future tells how long it took."""
    with ThreadPoolExecutor(1) as pool:
        begun = threading.Event()

        def wait() -> float:
            start = time.monotonic()
            begun.set()
            alarm.wait(seconds)
            return time.monotonic() - start

        future = pool.submit(wait)
        assert begun.wait(5)
        try:
            yield future
        finally:
            if not future.done():
                alarm.ring()


@pytest.fixture
def alarm(database: Database) -> Iterator[NotifyAlarm]:
    with database.engine(WORK) as engine:
        alarm = open_alarm(engine)
        assert isinstance(alarm, NotifyAlarm)
        yield alarm
        alarm.close()


def test_the_first_wait_listens_and_returns_since_something_may_have_been_missed(
    postgresql: PostgreSQL, database: Database, alarm: NotifyAlarm
) -> None:
    with waiting(alarm) as first:
        assert first.result(5) < LONG
    assert listeners(postgresql, database) == 1


def test_a_push_wakes_all_workers(database: Database, alarm: NotifyAlarm, serve: Engine) -> None:
    with database.engine(WORK) as engine:
        other = NotifyAlarm(engine.url)
        alarm.wait(0)
        other.wait(0)
        waker = open_waker(serve)
        assert isinstance(waker, NotifyWaker)
        with waiting(alarm) as one, waiting(other) as two:
            Intake(serve, woken=waker.wake).take([delivery()])
            assert max(one.result(5), two.result(5)) < 5
        waker.close()
        other.close()


def test_what_piled_up_is_one_wake_and_then_it_waits_again(alarm: NotifyAlarm, serve: Engine) -> None:
    alarm.wait(0)
    waker = NotifyWaker(serve)
    for _ in range(5):
        waker.wake()
    with waiting(alarm) as first:
        first.result(5)
    with waiting(alarm, 0.2) as second:
        assert second.result(5) >= 0.19


def test_a_ring_ends_the_wait_and_none_is_lost(alarm: NotifyAlarm) -> None:
    alarm.wait(0)
    alarm.ring()
    with waiting(alarm) as first:
        assert first.result(5) < 5
    for _ in range(5_000):
        alarm.ring()
    with waiting(alarm) as again:
        assert again.result(5) < 5


def test_a_listener_whose_connection_is_ended_listens_again_by_itself(
    postgresql: PostgreSQL, database: Database, alarm: NotifyAlarm, serve: Engine
) -> None:
    alarm.wait(0)
    with postgresql.admin() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name])
    alarm.wait(LONG)  # notices
    alarm.wait(LONG)  # listens
    with waiting(alarm) as future:
        NotifyWaker(serve).wake()
        assert future.result(5) < 5


def look(alarm: NotifyAlarm, caplog: pytest.LogCaptureFixture) -> bool:
    """Wait a moment and tell whether the alarm has complained."""
    alarm.wait(0.01)
    return bool(caplog.records)


def test_while_the_server_is_away_waits_are_time_outs_that_a_ring_still_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with PostgreSQL.started() as server, server.database() as database, database.engine(WORK) as engine:
        alarm = NotifyAlarm(engine.url)
        alarm.wait(0)
        server.stop(how=signal.SIGQUIT)
        wait_until(lambda: look(alarm, caplog), what="the alarm to notice")
        with waiting(alarm, 0.2) as future:
            assert 0.19 <= future.result(5) < 5
        with waiting(alarm) as future:
            alarm.ring()
            assert future.result(5) < 5
        with database.engine(SERVE) as serve:
            NotifyWaker(serve).wake()  # never fails
        assert [record.message for record in caplog.records].count("not listening, looking each second") == 1
        server.start()
        alarm.wait(LONG)  # listens
        with database.engine(SERVE) as serve, waiting(alarm) as future:
            NotifyWaker(serve).wake()
            assert future.result(5) < 5
        alarm.close()


def test_a_server_that_crashes_loses_nothing_acknowledged_and_refuses_at_once_while_it_is_away() -> None:
    with PostgreSQL.started() as server, server.database() as database, database.engine(SERVE, durable=True) as serve:
        take(serve, delivery("1"))
        server.stop(how=signal.SIGQUIT)
        begin = time.monotonic()
        with pytest.raises(JournalError, match="does not answer"):
            take(serve, delivery("2"))
        assert time.monotonic() - begin < 2
        server.start()
        # The same engine, whose connections are all dead.
        assert [take(serve, delivery(seed))[0].result for seed in "12"] == ["duplicate", ACCEPTED]


def test_a_stopped_alarm_leaves_no_connection_behind(
    postgresql: PostgreSQL, database: Database, alarm: NotifyAlarm
) -> None:
    alarm.wait(0)
    assert listeners(postgresql, database) == 1
    alarm.close()
    wait_until(lambda: listeners(postgresql, database) == 0, what="the connection to end")
