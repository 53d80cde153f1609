"""However a watch ends and whatever it does not tell, no outcome is missed."""

from __future__ import annotations

import pytest

from receiver.core.outcomes import DELETED, FAILED, SUCCEEDED
from receiver.journal.schema import STARTED
from tests.support.api_server import NAMESPACE
from tests.support.following import OTHER, OTHER_NAMESPACE, Bench, ended, with_metadata
from tests.support.journals import statements_of
from tests.support.waiting import wait_until
from tests.support.watch_server import ENDED, GARBAGE, GET, HALF_LINE, LIST, WATCH, WAYS_TO_END


@pytest.mark.parametrize("end", WAYS_TO_END)
def test_no_outcome_is_missed_however_a_watch_ends(bench: Bench, end: str) -> None:
    bench.unforeseen = end == GARBAGE
    meanwhile, later = bench.run("1"), bench.run("2")
    bench.start()
    with bench.server.unseen(end):
        bench.server.put(ended(meanwhile))
    assert bench.outcome(meanwhile)[0] == SUCCEEDED
    bench.wait_watching()
    bench.server.put(ended(later, good=False))
    assert bench.outcome(later)[0] == FAILED
    # A watch that ended in order goes on where it was; after any other end the list says how things are.
    assert bench.server.count(LIST) == (1 if end in (ENDED, HALF_LINE) else 2)
    bench.wait_reported([SUCCEEDED, FAILED])


@pytest.mark.parametrize("as_status", [True, False], ids=["HTTP status", "ERROR event"])
def test_after_410_the_runs_are_listed_and_what_ended_in_the_lost_history_is_recorded(
    bench: Bench, caplog: pytest.LogCaptureFixture, as_status: bool
) -> None:
    meanwhile, deleted, later = bench.run("1"), bench.run("2"), bench.run("3")
    bench.server.gone_as_status = as_status
    bench.start()
    with bench.server.unseen(ENDED):
        bench.server.put(ended(meanwhile))
        bench.server.delete(deleted["metadata"]["name"])
        bench.server.compact()
    assert bench.outcome(meanwhile)[0] == SUCCEEDED
    bench.wait_watching()
    assert (bench.server.count(LIST), bench.server.count(WATCH)) == (2, 3)
    bench.server.put(ended(later))
    assert bench.outcome(later)[0] == SUCCEEDED
    # What is no longer there a list cannot show; the next comparison misses it.
    assert bench.job(deleted)["state"] == STARTED
    bench.follower.reconcile()
    assert bench.outcome(deleted)[0] == DELETED
    assert bench.server.count(GET) == 1
    # That is the way of things, and no interruption to tell of.
    assert "watch interrupted" not in caplog.messages


def test_a_history_that_is_lost_again_and_again_loses_no_outcome(bench: Bench) -> None:
    runs = [bench.run(str(number)) for number in range(6)]
    bench.start()
    for run in runs:
        bench.wait_watching()
        with bench.server.unseen(ENDED):
            bench.server.put(ended(run))
            bench.server.compact()
        assert bench.outcome(run)[0] == SUCCEEDED
    bench.wait_reported([SUCCEEDED] * len(runs))


def test_a_bookmark_keeps_a_quiet_watch_from_becoming_too_old(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(with_metadata(run, namespace="elsewhere"))
    bench.server.compact()
    version = bench.server.bookmark()
    wait_until(lambda: bench.server.told == version, what="the bookmark to be told")
    with bench.server.unseen(ENDED):
        pass
    bench.wait_watching()
    assert [asked.what for asked in bench.server.asked if asked.kind == WATCH][1:] == [str(version)]
    assert bench.server.count(LIST) == 1


def test_a_run_whose_end_comes_before_the_journal_knows_of_its_begin_has_its_outcome_all_the_same(bench: Bench) -> None:
    run = bench.run("1", is_known=False)
    begun = bench.begun
    bench.start()
    with statements_of(bench.engine) as seen:
        bench.server.put(ended(run))
        wait_until(lambda: sum("jobs.state" in statement for statement in seen) >= 3, what="a few looks at the jobs")
    # What others do meanwhile makes nobody forget it.
    bench.pass_by()
    bench.wait_reported([SUCCEEDED])
    bench.tell_begun(begun)
    assert bench.outcome(run)[0] == SUCCEEDED
    assert (bench.server.count(LIST), bench.server.count(GET)) == (1, 0)


def test_every_namespace_that_a_trigger_uses_is_watched_once(bench: Bench) -> None:
    bench.namespaces |= {OTHER: OTHER_NAMESPACE, "third": NAMESPACE}
    here, there = bench.run("1"), bench.run("2", trigger=OTHER)
    bench.start()
    for run in (here, there):
        bench.server.put(ended(run))
        assert bench.outcome(run)[0] == SUCCEEDED
    asked = sorted(each.namespace for each in bench.server.asked if each.kind == WATCH)
    assert asked == sorted([NAMESPACE, OTHER_NAMESPACE])
