"""The API server or the journal is away, or a part of it refuses: outcomes wait, and none is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise

import pytest
from sqlalchemy import Engine

from receiver.core.outcomes import DELETED, SUCCEEDED
from receiver.errors import OutageError
from receiver.journal.engine import writing
from receiver.journal.schema import STARTED
from tests.support.api_server import Fault
from tests.support.following import OTHER, OTHER_NAMESPACE, Bench, ended
from tests.support.journals import run_sql
from tests.support.waiting import wait_until
from tests.support.watch_server import CUT, GET, LIST


def test_the_api_server_being_away_is_waited_for_with_a_breath_between_two_tries(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.follow._BREATH_SECONDS", 0.3)
    run = bench.run("1")
    bench.server.away = True
    bench.start(watching=False)
    wait_until(lambda: bench.server.count(LIST) >= 3, what="tries")
    bench.server.put(ended(run))
    bench.server.away = False
    assert bench.outcome(run)[0] == SUCCEEDED
    bench.wait_watching()
    tries = [asked.at for asked in bench.server.asked if asked.kind == LIST]
    # At the server's end, a busy machine makes some gaps shorter.
    assert min(later - before for before, later in pairwise(tries)) > 0.15


def test_an_outage_during_a_watch_is_outlived(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    before = bench.server.count(LIST)
    with bench.server.unseen(CUT):
        bench.server.away = True
    wait_until(lambda: bench.server.count(LIST) >= before + 2, what="tries")
    bench.server.put(ended(run))
    bench.server.compact()
    bench.server.away = False
    assert bench.outcome(run)[0] == SUCCEEDED


def test_credentials_that_were_renewed_meanwhile_are_used_without_a_push_that_would_look(bench: Bench) -> None:
    run = bench.run("1")
    bench.server.token = "renewed"
    bench.start(watching=False)
    wait_until(lambda: bench.server.count(LIST) >= 2, what="refused tries")
    bench.server.kubeconfig(bench.folder, token="renewed")
    bench.server.put(ended(run))
    assert bench.outcome(run)[0] == SUCCEEDED


@contextmanager
def unreadable(engine: Engine) -> Iterator[None]:
    run_sql(engine, "ALTER TABLE jobs RENAME TO elsewhere")
    yield
    run_sql(engine, "ALTER TABLE elsewhere RENAME TO jobs")


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    with writing(engine):
        yield


@pytest.mark.parametrize("fault", [unreadable, locked])
def test_an_outcome_that_the_journal_does_not_take_is_kept_until_it_does(
    bench: Bench, caplog: pytest.LogCaptureFixture, fault: Callable[[Engine], AbstractContextManager[None]]
) -> None:
    run = bench.run("1")
    bench.start()
    with fault(bench.engine):
        bench.server.put(ended(run))
        wait_until(lambda: "outcomes not recorded yet" in caplog.messages, what="the journal's refusal")
    assert bench.outcome(run)[0] == SUCCEEDED
    assert bench.server.count(LIST) == 1


def test_a_comparison_without_an_api_server_raises_and_settles_nothing(bench: Bench) -> None:
    run = bench.run("1")
    bench.server.away = True
    with pytest.raises(OutageError):
        bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED


def test_a_namespace_that_may_not_be_listed_keeps_no_other_from_its_outcomes(bench: Bench) -> None:
    bench.namespaces |= {OTHER: OTHER_NAMESPACE}
    run, hidden = bench.run("1"), bench.run("2", trigger=OTHER)
    for each in (run, hidden):
        bench.server.put(ended(each))
    bench.server.faults[LIST].append(Fault(403, "pipelineruns is forbidden"))
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == SUCCEEDED
    assert bench.job(hidden)["state"] == STARTED
    bench.follower.reconcile()
    assert bench.outcome(hidden)[0] == SUCCEEDED


@pytest.mark.parametrize(
    "answer", [Fault(431, "Request Header Fields Too Large"), Fault(429, "slow"), Fault(200, "OK")]
)
def test_a_run_that_is_not_answered_for_keeps_no_other_from_its_outcome(bench: Bench, answer: Fault) -> None:
    """Not even an answer of 200 means that it is gone, unless it is about this run."""
    sick, run = bench.run("1"), bench.run("2")
    for each in (sick, run):
        bench.server.delete(each["metadata"]["name"])
    bench.server.faults[GET].append(answer)
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == DELETED
    assert bench.job(sick)["state"] == STARTED
