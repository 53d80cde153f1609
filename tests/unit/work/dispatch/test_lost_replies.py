"""Nobody knows whether the run was made: it is found again, and not made twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver.journal.changes import IN_DOUBT
from receiver.journal.schema import STARTED, WAITING, jobs
from tests.support.api_server import Fault
from tests.support.dispatching import LEASE, Bench, trigger
from tests.support.journals import NOW, delivery, rows, take


@pytest.mark.parametrize(
    "fault",
    [
        Fault(takes_effect=True),
        Fault(504, "time-out", takes_effect=True),
        Fault(500, "etcd: leader changed", takes_effect=True),
    ],
    ids=["reply lost", "504", "500"],
)
def test_a_run_whose_reply_was_lost_is_found_again_and_not_made_twice(bench: Bench, fault: Fault) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(fault)
    job = bench.run()
    assert job["state"] == WAITING
    bench.now = job["due_at"] + 60
    assert bench.run()["state"] == STARTED
    assert len(bench.server.made) == 1


def test_a_lost_run_is_found_again_although_the_template_names_runs_otherwise_since_then(bench: Bench) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(Fault(takes_effect=True))
    job = bench.run()
    assert job["state"] == WAITING
    bench.now = job["due_at"] + 60
    job = bench.run(trigger(prefix="other-"))
    assert (job["state"], job["run_uid"]) == (STARTED, "uid-1")
    assert job["run_name"].startswith("striv-")
    assert len(bench.server.made) == 1


def test_a_lost_reply_to_a_request_that_did_nothing_makes_the_run_under_its_new_name(bench: Bench) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(Fault())
    bench.now = bench.run()["due_at"] + 60
    assert bench.run(trigger(prefix="other-"))["run_name"].startswith("other-")
    assert len(bench.server.made) == 1


def test_a_worker_that_was_killed_before_it_recorded_leaves_one_run(bench: Bench) -> None:
    take(bench.engine, delivery())
    lost = bench.dispatcher()
    (job,) = bench.jobs.claim(now=NOW, limit=1, lease_seconds=LEASE)
    lost.attempts.once(job)
    assert bench.job()["state"] == WAITING
    bench.now += LEASE
    assert bench.run()["state"] == STARTED
    assert bench.server.made == [bench.job()["run_name"]]


def test_a_bounded_trigger_starts_no_more_than_it_may_even_when_replies_are_lost(bench: Bench) -> None:
    take(bench.engine, *(delivery(str(number)) for number in range(4)))
    bench.server.faults.extend([Fault(500, "lost", takes_effect=True), Fault(500, "lost", takes_effect=True)])
    rule = trigger(max_active=2)
    bench.run(rule)
    assert len(bench.server.made) == 2
    # The first of the two is asked for again and refused for a while: that makes its run no less possible.
    for _ in range(3):
        bench.now += 120
        bench.server.faults.extend([Fault(429, "slow down")] * 2)
        bench.run(rule)
    bench.now += 120
    bench.run(rule)
    assert len(bench.server.made) == 2
    assert json.dumps([row["state"] for row in rows(bench.engine, jobs)]).count(STARTED) == 2


OTHERS = {"metadata": {"name": "striv-x", "namespace": "elsewhere", "uid": "u"}}


@pytest.mark.parametrize("reply", ["<html>", [], {}, {"kind": "Status"}, OTHERS], ids=str)
def test_a_run_that_may_exist_is_not_made_again_for_an_answer_about_something_else(bench: Bench, reply: Any) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(Fault(takes_effect=True))
    bench.now = bench.run()["due_at"] + 60
    get = bench.server.get
    bench.server.get = lambda name: (200, reply if name else {})  # type: ignore[method-assign]  # the server of this test alone
    job = bench.run()
    assert (job["state"], job["salt"], job["lease_until"]) == (WAITING, 0, IN_DOUBT)
    assert "is no PipelineRun of ours" in job["message"]
    bench.server.get = get  # type: ignore[method-assign]  # as above
    bench.now = job["due_at"] + 60
    assert bench.run()["state"] == STARTED
    assert len(bench.server.made) == 1


@pytest.mark.parametrize("reply", ["<html>", [], {"metadata": None}, {"metadata": {"name": "x"}}, OTHERS], ids=str)
def test_a_reply_that_is_no_run_is_asked_for_again_later_since_the_run_may_exist(bench: Bench, reply: Any) -> None:
    take(bench.engine, delivery())
    post = bench.server.post
    bench.server.post = lambda run: (post(run)[0], reply)  # type: ignore[method-assign]  # the server of this test alone
    job = bench.run(trigger(max_active=1))
    assert (job["state"], job["attempts"], job["lease_until"]) == (WAITING, 1, IN_DOUBT)
    assert "is no PipelineRun" in job["message"]
    bench.server.post = post  # type: ignore[method-assign]  # as above
    bench.now = job["due_at"]
    assert bench.run(trigger(max_active=1))["state"] == STARTED
    assert len(bench.server.made) == 1
