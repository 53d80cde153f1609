"""What no watch tells, a list does: at the start, and again and again."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from receiver.core.outcomes import FAILED, SUCCEEDED
from receiver.errors import OutageError
from receiver.journal.schema import FINISHED, transitions
from receiver.work.follow import Follower
from tests.support.api_server import Fault
from tests.support.following import Bench, ended
from tests.support.journals import rows
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.watch_server import ENDED, LIST, Object


def test_what_ended_while_nobody_followed_is_seen_at_the_next_start(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.stop()
    bench.server.put(ended(run))
    bench.start()
    assert bench.outcome(run) == (SUCCEEDED, "Succeeded", None)


def test_a_list_is_read_to_its_last_page(bench: Bench) -> None:
    runs = [bench.run(str(number)) for number in range(5)]
    for run in runs:
        bench.server.put(ended(run))
    bench.server.page_size = 2
    bench.start()
    assert {bench.outcome(run)[0] for run in runs} == {SUCCEEDED}
    assert bench.server.count(LIST) == 3


def test_a_list_whose_next_page_has_expired_is_begun_anew(bench: Bench) -> None:
    runs = [bench.run(str(number)) for number in range(3)]
    for run in runs:
        bench.server.put(ended(run))
    bench.server.page_size = 2
    page, pages = bench.server.page, 0

    def expiring(namespace: str, selector: str, *, limit: int, after: str) -> Object:
        nonlocal pages
        pages += 1
        if pages == 1:
            bench.server.faults[LIST].append(Fault(410, "The provided continue parameter is too old"))
        return page(namespace, selector, limit=limit, after=after)

    bench.server.page = expiring  # type: ignore[method-assign]  # the fake behaves otherwise in this one test
    bench.start()
    assert {bench.outcome(run)[0] for run in runs} == {SUCCEEDED}
    assert bench.server.count(LIST) == 4


def test_what_the_watch_does_not_tell_the_list_does(bench: Bench) -> None:
    run = bench.run("1")
    bench.start(relist_seconds=0.05)
    with bench.server.unseen(ENDED):
        bench.server.put(ended(run))
        assert bench.outcome(run)[0] == SUCCEEDED


@pytest.mark.parametrize("fault", [Fault(), Fault(500, "etcd"), Fault(403, "forbidden"), Fault(410, "expired")])
def test_lists_that_fail_are_asked_for_again(bench: Bench, fault: Fault) -> None:
    run = bench.run("1")
    bench.start(relist_seconds=0.05)
    with bench.server.unseen(ENDED):
        bench.server.faults[LIST].extend([fault] * 3)
        bench.server.put(ended(run))
        assert bench.outcome(run)[0] == SUCCEEDED


def test_an_outcome_is_seen_soon_though_all_connections_have_died_without_a_word(bench: Bench) -> None:
    """The watch hears nothing and waits; the list runs into one time-out, not into one more interval."""
    relist_seconds = 3.0
    with Proxy(bench.server.port) as proxy:
        bench.cluster.close()
        bench.server.port = proxy.port
        bench.connect(read_timeout_seconds=0.5)
        run = bench.run("1")
        bench.start(relist_seconds=relist_seconds)
        bench.follower.reconcile()
        proxy.forget()
        forgotten_at = time.monotonic()
        bench.server.put(ended(run))
        assert bench.outcome(run)[0] == SUCCEEDED
        assert time.monotonic() - forgotten_at < 2 * relist_seconds
        proxy.reset()
        bench.stop()


def test_a_list_that_found_the_cluster_away_is_repeated_once_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def away(_follower: Follower) -> None:
        tried.append(time.monotonic())
        raise OutageError("away")

    monkeypatch.setattr(Follower, "reconcile", away)
    bench.start(relist_seconds=0.5)
    wait_until(lambda: len(tried) >= 6, what="tries")
    assert [later - earlier > 0.4 for earlier, later in pairwise(tried[:6])] == [False, True, False, True, False]


def test_an_outcome_that_watch_and_list_both_tell_is_recorded_and_reported_once(bench: Bench) -> None:
    runs = [bench.run(str(number)) for number in range(20)]
    bench.start(relist_seconds=0.01)
    for number, run in enumerate(runs):
        bench.server.put(ended(run, good=number % 2 == 0))
    results = [bench.outcome(run)[0] for run in runs]
    assert results == [SUCCEEDED, FAILED] * 10
    wait_until(lambda: len(bench.reported) >= len(runs), what="all reports")
    bench.stop()
    assert sorted(bench.reported) == sorted(results)
    assert sum(row["to_state"] == FINISHED for row in rows(bench.engine, transitions)) == len(runs)
