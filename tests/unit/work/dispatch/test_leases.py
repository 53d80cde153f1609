"""Jobs in hand: they are kept for as long as they take, and given back when the plane stops."""

from __future__ import annotations

import threading

from receiver.journal.schema import STARTED, jobs
from tests.support.dispatching import LEASE, Bench
from tests.support.journals import delivery, rows, take


def test_what_has_not_begun_when_the_plane_stops_is_given_back_at_once(bench: Bench) -> None:
    take(bench.engine, *(delivery(str(number)) for number in range(4)))
    inside, go_on = bench.held_post()
    dispatcher = bench.dispatcher(concurrency=1)
    dispatcher.step()
    assert inside.wait(10)
    closing = threading.Thread(target=dispatcher.close)
    closing.start()
    go_on.set()
    closing.join(10)
    states = [row["state"] for row in rows(bench.engine, jobs)]
    assert states.count(STARTED) == len(bench.server.made) >= 1
    bench.run()
    assert [row["state"] for row in rows(bench.engine, jobs)] == [STARTED] * 4
    assert len(bench.server.made) == 4


def test_leases_of_jobs_in_hand_are_renewed(bench: Bench) -> None:
    take(bench.engine, delivery())
    inside, go_on = bench.held_post()
    dispatcher = bench.dispatcher()
    dispatcher.step()
    assert inside.wait(10)
    bench.now += LEASE - 1
    dispatcher.renew_leases()
    assert bench.job()["lease_until"] == bench.now + LEASE
    go_on.set()
    dispatcher.close()
    assert bench.job()["state"] == STARTED
