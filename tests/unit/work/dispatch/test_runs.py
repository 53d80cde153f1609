"""From job to run, against an API server at the wire: one run for each job, and each decision has its line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver.core.identity import run_name
from receiver.core.pipelinerun import KEY
from receiver.journal.schema import DEAD, STARTED, WAITING, jobs
from receiver.journal.writer import BatchWriter
from tests.support.api_server import NAMESPACE, Fault
from tests.support.dispatching import Bench
from tests.support.journals import NOW, REPOSITORY, delivery, rows, take


def test_a_job_becomes_a_run_that_is_recorded_with_its_name_and_uid(bench: Bench) -> None:
    new = delivery(id="g")
    (receipt,) = take(bench.engine, new)
    job = bench.run()
    (run,) = bench.server.runs.values()
    assert new.push is not None
    assert run["metadata"]["name"] == receipt.jobs[0].run_name
    assert run["metadata"]["annotations"][KEY] == job["job_key"].hex()
    assert run["spec"]["params"] == [{"name": "revision", "value": new.push.head_sha}]
    assert (job["state"], job["run_name"], job["run_uid"], job["started_at"]) == (
        STARTED,
        run["metadata"]["name"],
        "uid-1",
        NOW,
    )


def test_a_list_keeps_of_each_run_only_what_names_it_and_how_it_ended(bench: Bench) -> None:
    take(bench.engine, delivery())
    job = bench.run()
    (run,) = bench.server.runs.values()
    run["metadata"]["managedFields"] = ["x" * 10_000]
    run["status"] = {"conditions": [{"type": "Succeeded", "status": "True"}], "pipelineSpec": "x" * 10_000}
    ((found,), _) = bench.cluster.list_runs(NAMESPACE)
    assert found["metadata"]["name"] == job["run_name"]
    assert found["metadata"]["annotations"] == {KEY: job["job_key"].hex()}
    assert found["status"]["conditions"] == run["status"]["conditions"]
    assert len(json.dumps(found)) < 2_000


def foreign_object(name: str, **metadata: Any) -> dict[str, Any]:
    """What somebody else has made under this name."""
    return {"metadata": {"name": name, "namespace": NAMESPACE, "uid": "foreign", **metadata}}


def test_a_foreign_object_of_the_name_makes_the_run_take_another(bench: Bench) -> None:
    (receipt,) = take(bench.engine, delivery())
    name = receipt.jobs[0].run_name
    bench.server.runs[name] = foreign = foreign_object(name, annotations={KEY: "another"})
    assert bench.run()["salt"] == 1
    job = bench.run()
    assert job["state"] == STARTED
    assert job["run_name"] != name
    assert bench.server.runs[name] is foreign
    assert bench.server.made == [job["run_name"]]


def test_two_of_our_own_jobs_with_the_same_name_both_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By chance it would take 2^50 pushes."""

    def colliding(prefix: str, key: bytes, *, salt: int = 0) -> str:
        return run_name(prefix, key, salt=salt) if salt else prefix + "a" * 20

    monkeypatch.setattr("receiver.core.pipelinerun.run_name", colliding)
    take(bench.engine, delivery("1"), delivery("2"))
    bench.run()
    bench.run()
    both = rows(bench.engine, jobs)
    assert [job["state"] for job in both] == [STARTED, STARTED]
    assert len({job["run_name"] for job in both}) == len(bench.server.made) == 2
    found = {run["metadata"]["annotations"][KEY] for run in bench.server.runs.values()}
    assert found == {job["job_key"].hex() for job in both}


def test_a_job_whose_names_are_all_taken_is_dead_and_says_so(bench: Bench) -> None:
    take(bench.engine, delivery())
    bench.server.post = lambda run: (409, {"message": run["metadata"]["name"]})  # type: ignore[method-assign]  # the fake behaves otherwise in this one test
    bench.server.get = lambda name: (200, foreign_object(name))  # type: ignore[method-assign]  # the fake behaves otherwise in this one test
    for _ in range(3):
        assert bench.run()["state"] == WAITING
    job = bench.run()
    assert (job["state"], job["reason"]) == (DEAD, "name-taken")


@pytest.mark.parametrize(
    ("event", "faults"),
    [
        ("run created", []),
        ("job dead", [Fault(422, "unknown field")]),
        ("job postponed", [Fault(429, "slow down")]),
        ("run name taken", []),
        ("job failed in an unforeseen way", []),
        ("another worker was quicker", []),
    ],
)
def test_each_decision_has_a_line_that_says_of_which_push_and_which_run_it_is(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    faults: list[Fault],
) -> None:
    caplog.set_level("INFO")
    new = delivery(id="g")
    (receipt,) = take(bench.engine, new)
    name = receipt.jobs[0].run_name
    bench.server.faults.extend(faults)
    if event == "run name taken":
        bench.server.runs[name] = foreign_object(name)
    if event == "job failed in an unforeseen way":
        monkeypatch.setattr(bench.cluster, "create_run", int)
    if event == "another worker was quicker":
        monkeypatch.setattr(bench.jobs, "apply", lambda batch: [False] * len(batch))
        bench.recorder = BatchWriter(bench.jobs.apply)
    bench.run()
    (line,) = (vars(record) for record in caplog.records if record.message == event)
    assert new.push is not None
    said = {
        "delivery": "g",
        "trigger": "striv",
        "repository": REPOSITORY,
        "ref": new.push.ref,
        "sha": new.push.head_sha,
    }
    assert {field: line[field] for field in (*said, "run")} == {**said, "run": name}
