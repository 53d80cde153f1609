"""From job to run, against an API server at the wire: what is tried again, what is given up, and what is recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from receiver.clients.cluster import Cluster
from receiver.core.filters import PushFilter
from receiver.core.identity import run_name
from receiver.core.params import ParamReader, ParamRule
from receiver.core.pipelinerun import KEY
from receiver.core.triggers import Trigger
from receiver.journal.changes import IN_DOUBT, Change
from receiver.journal.jobs import Jobs
from receiver.journal.queries import Records
from receiver.journal.schema import DEAD, STARTED, WAITING, jobs, pushes, transitions
from receiver.journal.writer import BatchWriter
from receiver.settings.model import ClusterSettings
from receiver.work.dispatch import Dispatcher, Limits
from tests.support.api_server import NAMESPACE, ApiServer, Fault, api_server
from tests.support.journals import NOW, REPOSITORY, delivery, opened, rows, run_sql, take
from tests.support.waiting import wait_until

DAY = 86_400.0
LEASE = 10.0


def trigger(
    name: str = "striv",
    *,
    branches: Sequence[str] = ("**",),
    max_active: int | None = None,
    prefix: str = "striv-",
) -> Trigger:
    spec = {"params": [{"name": "revision", "value": ""}]}
    return Trigger(
        name=name,
        repository=REPOSITORY,
        filter=PushFilter.build(branches=list(branches)),
        reader=ParamReader([ParamRule(name="revision", source="head_sha", default=None)]),
        template={
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "metadata": {"generateName": prefix},
            "spec": spec,
        },
        name_prefix=prefix,
        namespace=NAMESPACE,
        skip_markers=True,
        max_active=max_active,
    )


class Bench:
    """A dispatcher on a journal and a server, with a clock of its own."""

    def __init__(self, engine: Engine, server: ApiServer, cluster: Cluster) -> None:
        self.engine, self.server, self.cluster = engine, server, cluster
        self.now = NOW
        self.rung = threading.Event()
        self.jobs = Jobs(engine)
        self.recorder: BatchWriter[Change, bool] = BatchWriter(self.jobs.apply)
        self.dispatchers: list[Dispatcher] = []

    def dispatcher(self, *triggers: Trigger, concurrency: int = 4) -> Dispatcher:
        self.pool = ThreadPoolExecutor(concurrency)
        made = Dispatcher(
            jobs=self.jobs,
            recorder=self.recorder,
            cluster=self.cluster,
            triggers=triggers or (trigger(),),
            limits=Limits(concurrency=concurrency, lease_seconds=LEASE, give_up_days=3.0),
            clock=lambda: self.now,
            ring=self.rung.set,
            pool=self.pool,
        )
        self.dispatchers.append(made)
        return made

    def run(self, *triggers: Trigger) -> dict[str, Any]:
        """Let a worker take one step to its end; return the first job."""
        dispatcher = self.dispatcher(*triggers)
        dispatcher.step()
        self.pool.shutdown()
        dispatcher.close()
        return self.job()

    def held_post(self) -> tuple[threading.Event, threading.Event]:
        """Hold every creation up; return what is set when one has come, and what lets all go on."""
        inside, go_on = threading.Event(), threading.Event()
        post = self.server.post

        def slow(run: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            inside.set()
            assert go_on.wait(10)
            return post(run)

        self.server.post = slow  # type: ignore[method-assign]  # the fake behaves otherwise in this one test
        return inside, go_on

    def wait_idle(self) -> None:
        """Return when a dispatcher with one thread has done what it was given."""
        self.pool.submit(int).result(10)

    def job(self) -> dict[str, Any]:
        return rows(self.engine, jobs)[0]

    def close(self) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.close()
        self.recorder.close()
        self.cluster.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with api_server() as server, opened(tmp_path) as engine:
        settings = ClusterSettings(kubeconfig=str(server.kubeconfig(tmp_path)), read_timeout_seconds=5.0)
        bench = Bench(engine, server, Cluster(settings, folder=tmp_path, connections=8))
        yield bench
        bench.close()


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
    lost.attempt(job)
    assert bench.job()["state"] == WAITING
    bench.now += LEASE
    assert bench.run()["state"] == STARTED
    assert bench.server.made == [bench.job()["run_name"]]


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
    assert (job["state"], job["attempts"], dispatcher.circuit.is_open) == (WAITING, counts, opens)
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


def test_a_foreign_object_of_the_name_makes_the_run_take_another(bench: Bench) -> None:
    (receipt,) = take(bench.engine, delivery())
    name = receipt.jobs[0].run_name
    bench.server.runs[name] = foreign = {"metadata": {"name": name, "annotations": {KEY: "another"}}}
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
    bench.server.get = lambda name: (200, {"metadata": {"name": name}})  # type: ignore[method-assign]  # the fake behaves otherwise in this one test
    for _ in range(3):
        assert bench.run()["state"] == WAITING
    job = bench.run()
    assert (job["state"], job["reason"]) == (DEAD, "name-taken")


def test_a_job_that_cannot_start_for_days_is_given_up_with_the_last_problem(bench: Bench) -> None:
    take(bench.engine, delivery())
    for passed in (0.0, 3 * DAY - 1):
        bench.now += passed
        bench.server.faults.append(Fault(429, "slow down"))
        assert bench.run()["state"] == WAITING
    bench.now += 2 * DAY
    bench.server.faults.append(Fault(503, "still away"))
    job = bench.run()
    assert (job["state"], job["reason"]) == (DEAD, "given-up")
    assert "still away" in job["message"]
    # A 503 may have made the run: should the job live again, that counts.
    assert job["lease_until"] > 0


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


def test_a_job_that_dies_without_asking_does_not_close_the_circuit(bench: Bench) -> None:
    take(bench.engine, delivery())
    dispatcher = bench.dispatcher(trigger("other"))
    dispatcher.circuit.failed(now=NOW - 60, random=0.5)
    dispatcher.step()
    dispatcher.close()
    assert bench.job()["state"] == DEAD
    assert dispatcher.circuit.is_open


def test_without_a_job_to_try_the_cluster_is_asked_by_a_call_that_changes_nothing(bench: Bench) -> None:
    dispatcher = bench.dispatcher(concurrency=1)
    dispatcher.circuit.failed(now=NOW - 60, random=0.5)
    bench.server.away = True
    # To look again at once would be a loop without a pause.
    assert 0.5 <= dispatcher.step() <= 1.0
    bench.wait_idle()
    assert 0 < dispatcher.step() <= 1.0
    assert (dispatcher.circuit.is_open, bench.server.listed) == (True, 1)
    bench.server.away = False
    bench.now += 2
    bench.rung.clear()
    assert dispatcher.step() <= 1.0
    assert bench.rung.wait(10)
    assert dispatcher.circuit.seconds_to_probe(now=bench.now) is None
    assert (bench.server.listed, bench.server.made) == (2, [])


def test_while_one_job_asks_the_plane_does_not_look_again_and_again(bench: Bench) -> None:
    take(bench.engine, delivery())
    inside, go_on = bench.held_post()
    dispatcher = bench.dispatcher()
    dispatcher.circuit.failed(now=NOW - 60, random=0.5)
    assert 0.5 <= dispatcher.step() <= 1.0
    assert inside.wait(10)
    assert 0.5 <= dispatcher.step() <= 1.0
    bench.now += 2
    # Now it may ask once more, and there is no other job.
    assert 0.5 <= dispatcher.step() <= 1.0
    go_on.set()
    dispatcher.close()
    assert bench.job()["state"] == STARTED


def test_during_an_outage_one_job_asks_for_all_and_its_answer_lets_all_go(bench: Bench) -> None:
    take(bench.engine, *(delivery(str(number)) for number in range(5)))
    dispatcher = bench.dispatcher()
    dispatcher.circuit.failed(now=NOW, random=0.5)
    assert 0 < dispatcher.step() <= 1.0
    assert [row["lease"] for row in rows(bench.engine, jobs)] == [0] * 5
    bench.now += 2
    bench.rung.clear()
    dispatcher.step()
    assert bench.rung.wait(10)
    dispatcher.close()
    assert [row["lease"] for row in rows(bench.engine, jobs)] == [1, 0, 0, 0, 0]
    bench.run()
    assert len(bench.server.made) == 5


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


def test_jobs_that_were_claimed_before_the_cluster_went_away_are_given_back_untried(bench: Bench) -> None:
    for number in range(4):
        take(bench.engine, delivery(str(number)))
    bench.server.faults.append(Fault())
    bench.dispatcher(concurrency=1).step()
    wait_until(lambda: all(job["message"] for job in rows(bench.engine, jobs)), what="all to be given back")
    assert bench.server.made == []
    assert {(job["state"], job["attempts"]) for job in rows(bench.engine, jobs)} == {(WAITING, 0)}


def test_credentials_that_cannot_be_read_for_a_while_stop_nobody(bench: Bench, tmp_path: Path) -> None:
    take(bench.engine, delivery())
    kubeconfig = tmp_path / "kubeconfig"
    content = kubeconfig.read_text()
    kubeconfig.write_text("")
    bench.cluster.reconnect()
    kubeconfig.write_text(content)
    assert bench.run()["state"] == STARTED


@pytest.mark.parametrize("reply", ["<html>", [], {"metadata": None}, {"metadata": {"name": "x"}}], ids=str)
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


def test_a_job_at_which_the_receiver_fails_is_put_off_for_ever_longer_and_given_up_in_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd")

    take(bench.engine, delivery("sick"))
    monkeypatch.setattr(bench.cluster, "create_run", fail)
    rule = trigger(max_active=1)
    job = bench.run(rule)
    for attempt in range(1, 8):
        assert (job["state"], job["attempts"], job["lease_until"]) == (WAITING, attempt, IN_DOUBT)
        assert job["due_at"] >= bench.now + 0.1 * 2 ** (attempt - 1)
        assert "ValueError('odd')" in job["message"]
        bench.now = job["due_at"]
        job = bench.run(rule)
    bench.now += 4 * DAY
    job = bench.run(rule)
    assert (job["state"], job["reason"], job["lease_until"]) == (DEAD, "given-up", IN_DOUBT)


def test_a_job_that_waited_for_its_turn_for_days_is_given_up_only_days_after_it_first_failed(bench: Bench) -> None:
    take(bench.engine, delivery())
    bench.now += 30 * DAY
    first = bench.now
    for passed in (0.0, 2.9 * DAY):
        bench.now = first + passed
        bench.server.faults.append(Fault(429, "slow down"))
        assert bench.run()["state"] == WAITING
    bench.now = first + 3 * DAY
    bench.server.faults.append(Fault(429, "slow down"))
    job = bench.run()
    assert (job["state"], job["reason"]) == (DEAD, "given-up")
    assert job["message"].startswith("after 3.0 days")


def test_a_job_that_lives_again_has_all_its_patience_again(bench: Bench) -> None:
    take(bench.engine, delivery())
    for passed in (0.0, 4 * DAY):
        bench.now = NOW + passed
        bench.server.faults.append(Fault(429, "slow down"))
        job = bench.run()
    assert job["state"] == DEAD
    bench.now += 1
    assert Records(bench.engine).retry(None, now=bench.now) == 1
    for passed in (0.0, 2.9 * DAY):
        bench.now += passed
        bench.server.faults.append(Fault(429, "slow down"))
        assert bench.run()["state"] == WAITING


def test_many_failed_attempts_do_not_use_up_a_jobs_patience(bench: Bench) -> None:
    take(bench.engine, delivery())
    for _ in range(300):
        bench.server.faults.append(Fault(429, "slow down"))
        job = bench.run()
        bench.now = job["due_at"]
    assert (job["state"], job["attempts"]) == (WAITING, 300)
    assert bench.run()["state"] == STARTED


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
        bench.server.runs[name] = {"metadata": {"name": name}}
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
