"""What the API server refuses: what is tried again, and what is dead at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, update

from receiver.core.triggers import Trigger
from receiver.journal.schema import DEAD, STARTED, WAITING, pushes, transitions
from tests.support.api_server import Fault
from tests.support.dispatching import Bench, trigger
from tests.support.journals import NOW, delivery, rows, run_sql, take


@pytest.mark.parametrize(
    ("fault", "counts", "opens", "least_seconds"),
    [
        (Fault(429, "slow down"), 1, False, 0.1),
        (Fault(429, "slow down", {"Retry-After": "20"}), 1, False, 20.0),
        (Fault(500, "etcd"), 1, False, 0.1),
        (Fault(403, 'pipelineruns "x" is forbidden: exceeded quota: runs'), 1, False, 0.1),
        (Fault(503, "not ready"), 0, True, 0.0),
        (Fault(500, 'failed calling webhook "webhook.pipeline.tekton.dev"'), 0, True, 0.0),
        (Fault(401, "Unauthorized"), 0, True, 0.0),
        (Fault(), 0, True, 0.0),
    ],
    ids=["429", "429 with Retry-After", "500", "quota", "503", "webhook", "401", "reset"],
)
def test_what_may_work_later_waits_and_an_outage_uses_up_nobodys_patience(
    bench: Bench, fault: Fault, counts: int, opens: bool, least_seconds: float
) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(fault)
    dispatcher = bench.dispatcher()
    dispatcher.step()
    dispatcher.close()
    job = bench.job()
    assert (job["state"], job["attempts"], dispatcher.availability.is_away) == (WAITING, counts, opens)
    assert least_seconds <= job["due_at"] - NOW <= least_seconds + 60
    assert fault.message in job["message"]
    bench.now += 60
    assert bench.run()["state"] == STARTED


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "pipelineruns is forbidden: User cannot create"), (404, "namespaces not found"), (422, "unknown field")],
)
def test_a_permanent_refusal_is_dead_at_once_with_the_api_servers_words(
    bench: Bench, status: int, message: str
) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(Fault(status, message))
    job = bench.run()
    assert (job["state"], job["reason"], job["finished_at"]) == (DEAD, "refused", NOW)
    assert job["message"] == f"HTTP {status}: {message}"
    assert rows(bench.engine, transitions)[-1]["to_state"] == DEAD
    take(bench.engine, delivery())
    assert bench.run()["state"] == STARTED


def drop_payload(engine: Engine) -> None:
    run_sql(engine, "DELETE FROM pushes")


def spoil_payload(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(update(pushes).values(body=b"garbage"))


@pytest.mark.parametrize(
    ("rule", "spoil", "words"),
    [
        (trigger("other"), None, "no longer configured"),
        (trigger(branches=["release"]), None, "does not match this push"),
        (trigger(), drop_payload, "no longer in the journal"),
        (trigger(), spoil_payload, "no longer in the journal"),
    ],
    ids=["trigger gone", "filter changed", "payload pruned", "payload damaged"],
)
def test_a_job_that_todays_configuration_does_not_want_is_dead_without_asking_the_cluster(
    bench: Bench, rule: Trigger, spoil: Callable[[Engine], None] | None, words: str
) -> None:
    take(bench.engine, delivery())
    if spoil:
        spoil(bench.engine)
    job = bench.run(rule)
    assert (job["state"], job["reason"]) == (DEAD, "refused")
    assert words in job["message"]
    assert bench.server.made == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_by_an_api_server_that_has_not_read_its_rules_yet_is_an_outage(bench: Bench, status: int) -> None:
    """Seen at kube-apiserver 1.36: for some hundred milliseconds after a start it forbids whatever RBAC allows."""
    take(bench.engine, delivery())
    bench.server.ready = False
    bench.server.faults.append(Fault(status, "pipelineruns is forbidden: User cannot create"))
    job = bench.run()
    assert (job["state"], job["attempts"]) == (WAITING, 0)
    assert bench.run()["state"] == STARTED


@pytest.mark.parametrize(
    "message", ["exceeded quota: runs", "status unknown for quota: runs", "not yet ready to handle request"]
)
def test_what_admission_forbids_only_for_now_waits(bench: Bench, message: str) -> None:
    take(bench.engine, delivery())
    bench.server.faults.append(Fault(403, f"pipelineruns is forbidden: {message}"))
    job = bench.run()
    assert (job["state"], job["attempts"]) == (WAITING, 1)
