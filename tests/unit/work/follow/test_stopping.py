"""How following ends."""

from __future__ import annotations

import pytest

from receiver.core.outcomes import SUCCEEDED
from receiver.core.pipelinerun import MANAGED_BY
from tests.support.api_server import NAMESPACE
from tests.support.following import OTHER, OTHER_NAMESPACE, Bench, ended
from tests.support.waiting import wait_until
from tests.support.watch_server import CUT, LIST


@pytest.mark.parametrize("away", [False, True])
def test_all_threads_end_when_the_plane_stops(bench: Bench, away: bool) -> None:
    run = bench.run("1")
    bench.start(relist_seconds=0.05)
    if away:
        with bench.server.unseen(CUT):
            bench.server.away = True
        wait_until(lambda: bench.server.count(LIST) >= 3, what="tries")
    bench.stopping.set()
    # An open watch learns of it with the next event.
    bench.server.put(ended(run))
    bench.join()
    bench.server.away = False
    bench.start()
    assert bench.outcome(run)[0] == SUCCEEDED
    bench.stop()
    bench.wait_reported([SUCCEEDED])


def test_a_follower_that_stops_closes_its_watch(bench: Bench) -> None:
    bench.start()
    bench.stopping.set()
    bench.server.put(ended({"metadata": {"name": "x", "namespace": NAMESPACE, "uid": "x", "labels": dict(MANAGED_BY)}}))
    bench.join()
    # The server notices when it has something to tell to a closed connection.
    wait_until(lambda: bench.server.bookmark() and bench.server.watching == 0, what="the watch to be closed")


def test_threads_are_named_after_what_they_do_and_hold_up_no_exit(bench: Bench) -> None:
    bench.namespaces |= {OTHER: OTHER_NAMESPACE}
    threads = bench.follower.threads()
    names = {thread.name for thread in threads}
    assert names == {"outcomes", "relist", f"watch-{NAMESPACE}", f"watch-{OTHER_NAMESPACE}"}
    assert all(thread.daemon for thread in threads)
