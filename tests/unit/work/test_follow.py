"""From run to outcome, against an API server at the wire: none is missed, and none is believed that is not the job's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from receiver.clients.cluster import Cluster
from receiver.core.identity import run_name
from receiver.core.outcomes import DELETED, FAILED, SUCCEEDED
from receiver.core.pipelinerun import KEY, MANAGED_BY
from receiver.errors import OutageError, TamperedError
from receiver.journal.changes import Change, started
from receiver.journal.engine import writing
from receiver.journal.jobs import Jobs
from receiver.journal.schema import FINISHED, STARTED, jobs, transitions
from receiver.journal.writer import BatchWriter
from receiver.settings.model import ClusterSettings
from receiver.work.follow import Follower
from tests.support.api_server import NAMESPACE, Fault
from tests.support.journals import NOW, REPOSITORY, TRIGGER, delivery, opened, rows, run_sql, statements_of, take
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.watch_server import (
    CUT,
    ENDED,
    GARBAGE,
    GET,
    HALF_LINE,
    LIST,
    TASKRUNS,
    WATCH,
    WAYS_TO_END,
    Object,
    WatchServer,
    watch_server,
)

OTHER, OTHER_NAMESPACE = "other", "a-namespace-before"
NEVER_SECONDS = 3_600.0
UNFORESEEN = "following failed in an unforeseen way"


def ended(run: Object, *, good: bool = True, reason: str = "", message: str = "Tasks Completed: 6") -> Object:
    """Return the run with an outcome."""
    reason = reason or ("Succeeded" if good else "Failed")
    condition = {"type": "Succeeded", "status": str(good), "reason": reason, "message": message}
    children = [{"kind": "TaskRun", "name": "a-task", "pipelineTaskName": "a-task"}]
    return {**run, "status": {"conditions": [condition], "childReferences": children}}


def with_metadata(run: Object, **changes: Any) -> Object:
    """Return the run with these fields of its metadata replaced."""
    return {**run, "metadata": {**run["metadata"], **changes}}


def failed_taskrun(run: Object, task: str) -> Object:
    """Return a TaskRun of the run that failed."""
    labels = {"tekton.dev/pipelineRunUID": run["metadata"]["uid"], "tekton.dev/pipelineTask": task}
    condition = {"type": "Succeeded", "status": "False", "reason": "Failed", "lastTransitionTime": "2026-11-02"}
    return {"metadata": {"name": f"run-{task}", "labels": labels}, "status": {"conditions": [condition]}}


class Bench:
    """A follower on a journal and a server. The clock stands still; the triggers are `striv` and, elsewhere, `other`."""

    def __init__(self, engine: Engine, server: WatchServer, folder: Path) -> None:
        self.engine, self.server, self.folder = engine, server, folder
        self.jobs = Jobs(engine)
        self.recorder: BatchWriter[Change, bool] = BatchWriter(self.jobs.apply)
        self.connect(read_timeout_seconds=5.0)
        self.reported: list[str] = []
        self.tampered: list[TamperedError] = []
        self.namespaces = {TRIGGER: NAMESPACE}
        self.unforeseen = False
        self.make()

    def connect(self, *, read_timeout_seconds: float) -> None:
        """Make a way to the server, whose port may be a proxy's meanwhile."""
        settings = ClusterSettings(
            kubeconfig=str(self.server.kubeconfig(self.folder)), read_timeout_seconds=read_timeout_seconds
        )
        self.cluster = Cluster(settings, folder=self.folder, connections=8)

    def make(self, *, relist_seconds: float = NEVER_SECONDS) -> None:
        """Make another follower, as the next process would."""
        self.stopping = threading.Event()
        self.follower = Follower(
            jobs=self.jobs,
            recorder=self.recorder,
            cluster=self.cluster,
            namespaces=self.namespaces,
            relist_seconds=relist_seconds,
            clock=lambda: NOW + 5,
            stopping=self.stopping,
            report_ended=self.reported.append,
            report_tampered=self.tampered.append,
        )
        self.threads: list[threading.Thread] = []

    def start(self, *, relist_seconds: float = NEVER_SECONDS, watching: bool = True) -> None:
        """Start all threads of a new follower; return when it watches, if it can."""
        self.server.close()
        self.make(relist_seconds=relist_seconds)
        self.threads = self.follower.threads()
        for thread in self.threads:
            thread.start()
        if watching:
            self.wait_watching()

    def wait_watching(self) -> None:
        """Return when every namespace is watched."""
        number = len(set(self.namespaces.values()))
        wait_until(lambda: self.server.watching == number, what="the watch")

    def join(self) -> None:
        """Return when all threads have ended."""
        for thread in self.threads:
            thread.join(10)
        assert [thread.name for thread in self.threads if thread.is_alive()] == []

    def stop(self) -> None:
        """Stop the follower; an API server ends a watch after a minute at the latest, here it does so now."""
        self.stopping.set()
        wait_until(self._has_ended, what="all threads to end")

    def _has_ended(self) -> bool:
        self.server.close()
        return not any(thread.is_alive() for thread in self.threads)

    def close(self) -> None:
        """Stop everything."""
        self.stop()
        self.recorder.close()
        self.cluster.close()

    def run(self, seed: str, *, trigger: str = TRIGGER, is_known: bool = True) -> Object:
        """Return a run that has begun, of a new job, which says so unless its run is not known yet."""
        take(self.engine, delivery(seed, triggers=(trigger,)))
        (job,) = self.jobs.claim(now=NOW, limit=1, lease_seconds=10.0)
        name = run_name(f"{trigger}-", job.key)
        metadata = {
            "name": name,
            "namespace": self.namespaces.get(trigger, NAMESPACE),
            "uid": f"uid-{seed}",
            "labels": dict(MANAGED_BY),
            "annotations": {KEY: job.key.hex()},
        }
        self.begun = started(job, run_name=name, run_uid=f"uid-{seed}", at=NOW)
        if is_known:
            self.tell_begun(self.begun)
        run = {"metadata": metadata, "status": {"conditions": [{"type": "Succeeded", "status": "Unknown"}]}}
        self.server.put(run)
        return run

    def tell_begun(self, begun: Change) -> None:
        """Let the journal know that a run has begun."""
        assert self.recorder.submit(begun).result()

    def job(self, run: Object) -> dict[str, Any]:
        """Return the row of the run's job."""
        (row,) = [row for row in rows(self.engine, jobs) if row["guid"] and row["run_name"] == run["metadata"]["name"]]
        return row

    def outcome(self, run: Object) -> tuple[str, str, str | None]:
        """Wait for the outcome of the run's job and return its result, reason and failed task."""
        job = wait_until(lambda: self.finished(run), what=f"the outcome of {run['metadata']['name']}")
        return job["result"], job["reason"], job["failed_task"]

    def wait_reported(self, results: list[str]) -> None:
        """Wait until these and no other results have been reported: that comes just after the journal has them."""
        wait_until(lambda: self.reported == results, what=f"reports of {results}")

    def finished(self, run: Object) -> dict[str, Any] | None:
        """Return the row of the run's job when it has an outcome."""
        job = self.job(run)
        return job if job["state"] == FINISHED else None

    def pass_by(self) -> None:
        """Return when the follower has dealt with all that its watch was told before."""
        last = self.run(f"last {len(rows(self.engine, jobs))}")
        self.server.put(ended(last))
        self.outcome(last)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Bench]:
    """A bench whose follower takes short breaths; at its end nothing unforeseen may have happened but what a test says."""
    monkeypatch.setattr("receiver.work.follow._BREATH_SECONDS", 0.05)
    monkeypatch.setattr("receiver.work.follow._TICK_SECONDS", 0.05)
    with watch_server() as server, opened(tmp_path) as engine:
        bench = Bench(engine, server, tmp_path)
        yield bench
        bench.close()
    messages = [record.message for record in caplog.get_records("call")]
    assert (UNFORESEEN in messages) == bench.unforeseen


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended and belongs to no job that has begun is looked into at once."""
    monkeypatch.setattr("receiver.work.follow._PATIENCE_SECONDS", 0.0)


# ---------------------------------------------------------------- what is recorded


@pytest.mark.parametrize(("good", "result"), [(True, SUCCEEDED), (False, FAILED)])
def test_the_outcome_of_a_run_is_recorded_as_soon_as_the_watch_tells_it(bench: Bench, good: bool, result: str) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(ended(run, good=good, reason="Because", message="Words"))
    assert bench.outcome(run) == (result, "Because", None)
    job = bench.job(run)
    assert (job["message"], job["finished_at"]) == ("Words", NOW + 5)
    steps = [(row["from_state"], row["to_state"], row["reason"]) for row in rows(bench.engine, transitions)]
    assert steps[-1] == (STARTED, FINISHED, "Because")
    bench.wait_reported([result])
    assert (bench.server.count(LIST), bench.server.count(WATCH)) == (1, 1)


def test_a_run_that_is_not_done_has_no_outcome(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(
        {**run, "status": {"conditions": [{"type": "Succeeded", "status": "Unknown", "reason": "Running"}]}}
    )
    bench.pass_by()
    bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED


def test_a_failed_run_is_recorded_with_the_task_that_failed_in_it_and_not_in_another(bench: Bench) -> None:
    other, run = bench.run("other"), bench.run("1")
    bench.server.taskruns = [failed_taskrun(other, "checkout"), failed_taskrun(run, "test-backend")]
    bench.start()
    bench.server.put(ended(run, good=False))
    assert bench.outcome(run) == (FAILED, "Failed", "test-backend (Failed)")


def test_a_run_that_failed_before_its_first_task_is_asked_for_none(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    refused = ended(run, good=False, reason="CouldntGetPipeline")
    del refused["status"]["childReferences"]
    bench.server.put(refused)
    assert bench.outcome(run) == (FAILED, "CouldntGetPipeline", None)
    assert bench.server.count(TASKRUNS) == 0


def test_a_right_to_see_tasks_that_is_missing_costs_the_task_and_not_the_outcome(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.faults[TASKRUNS].append(Fault(403, "taskruns is forbidden"))
    bench.server.put(ended(run, good=False))
    assert bench.outcome(run) == (FAILED, "Failed", None)


@pytest.mark.parametrize("fault", [Fault(), Fault(503, "not ready"), Fault(429, "slow down"), Fault(410, "expired")])
def test_an_api_server_that_is_away_when_the_task_is_asked_for_costs_neither_task_nor_outcome(
    bench: Bench, fault: Fault
) -> None:
    run = bench.run("1")
    bench.server.taskruns = [failed_taskrun(run, "test-backend")]
    bench.start()
    bench.server.faults[TASKRUNS].extend([fault] * 3)
    bench.server.put(ended(run, good=False))
    assert bench.outcome(run) == (FAILED, "Failed", "test-backend (Failed)")
    bench.wait_reported([FAILED])


def test_a_run_that_is_deleted_before_its_end_is_recorded_as_deleted(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.delete(run["metadata"]["name"])
    assert bench.outcome(run) == (DELETED, "Deleted", None)
    bench.wait_reported([DELETED])


def test_a_run_that_is_deleted_after_its_end_keeps_its_outcome(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    with bench.server.unseen(ENDED):
        bench.server.put(ended(run))
        bench.server.delete(run["metadata"]["name"])
    assert bench.outcome(run) == (SUCCEEDED, "Succeeded", None)


def test_a_run_that_was_deleted_while_nobody_watched_is_recorded_as_deleted_by_the_list(bench: Bench) -> None:
    run = bench.run("1")
    bench.server.delete(run["metadata"]["name"])
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "Deleted", None)


def test_a_run_of_a_trigger_that_is_no_longer_configured_is_let_go(bench: Bench) -> None:
    run = bench.run("1", trigger="removed")
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "TriggerRemoved", None)


# ---------------------------------------------------------------- nothing is missed


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


def test_every_namespace_that_a_trigger_uses_is_watched_once(bench: Bench) -> None:
    bench.namespaces |= {OTHER: OTHER_NAMESPACE, "third": NAMESPACE}
    here, there = bench.run("1"), bench.run("2", trigger=OTHER)
    bench.start()
    for run in (here, there):
        bench.server.put(ended(run))
        assert bench.outcome(run)[0] == SUCCEEDED
    asked = sorted(each.namespace for each in bench.server.asked if each.kind == WATCH)
    assert asked == sorted([NAMESPACE, OTHER_NAMESPACE])


# ---------------------------------------------------------------- outages


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


def test_a_run_that_may_not_be_asked_for_keeps_no_other_from_its_outcome(bench: Bench) -> None:
    sick, run = bench.run("1"), bench.run("2")
    for each in (sick, run):
        bench.server.delete(each["metadata"]["name"])
    bench.server.faults[GET].append(Fault(431, "Request Header Fields Too Large"))
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == DELETED
    assert bench.job(sick)["state"] == STARTED


# ---------------------------------------------------------------- what is not believed


def test_a_run_that_only_lost_its_label_lives_on_and_its_outcome_is_found_by_name(bench: Bench) -> None:
    """A watch that selects by a label is told of such a run as if it were deleted."""
    run = bench.run("1")
    bench.start()
    bare = with_metadata(run, labels={})
    bench.server.put(bare)
    wait_until(lambda: bench.server.count(GET) == 1, what="a look at the run itself")
    bench.pass_by()
    assert bench.job(run)["state"] == STARTED
    bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED
    bench.server.put(ended(bare))
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == SUCCEEDED


def test_a_run_that_another_has_replaced_under_its_name_is_recorded_as_deleted(bench: Bench) -> None:
    run = bench.run("1")
    bench.server.put(ended(with_metadata(run, uid="another")))
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "Deleted", None)


@pytest.mark.parametrize("key", ["ab" * 32, "no key", "\N{GREEK SMALL LETTER ALPHA}", "", None])
def test_a_run_of_the_right_uid_without_the_jobs_key_is_not_the_jobs(bench: Bench, key: str | None) -> None:
    run = bench.run("1")
    bench.start()
    annotations = None if key is None else {KEY: key}
    bench.server.put(ended(with_metadata(run, annotations=annotations)))
    bench.pass_by()
    assert bench.job(run)["state"] == STARTED
    bench.follower.reconcile()
    assert bench.outcome(run) == (DELETED, "NotOurs", None)


def test_a_job_that_points_at_the_run_of_another_does_not_get_its_outcome(bench: Bench) -> None:
    forged, run = bench.run("1"), bench.run("2")
    bench.server.delete(forged["metadata"]["name"])
    run_sql(bench.engine, "UPDATE jobs SET run_uid = 'uid-2' WHERE run_uid = 'uid-1'")
    bench.server.put(ended(run))
    bench.start(relist_seconds=0.05)
    assert bench.outcome(run)[0] == SUCCEEDED
    assert bench.outcome(forged)[0] == DELETED


@pytest.mark.usefixtures("impatient")
def test_ended_runs_that_belong_to_no_job_change_nothing(bench: Bench) -> None:
    run = bench.run("1")
    for number, carried in enumerate(({KEY: "ab" * 32}, {KEY: "no key"}, {}, None)):
        metadata = {"name": f"foreign-{number}", "uid": f"foreign-{number}", "annotations": carried}
        bench.server.put(ended(with_metadata(run, **metadata)))
    bench.start()
    bench.pass_by()
    bench.follower.reconcile()
    assert bench.job(run)["state"] == STARTED


def forge_finished(bench: Bench, run: Object, result: str) -> None:
    job = bench.job(run)
    run_sql(
        bench.engine,
        f"UPDATE jobs SET state = 'finished', result = '{result}', failed_task = NULL WHERE id = {job['id']}",  # noqa: S608 - our own
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("by", ["watch", "list"])
def test_what_the_journal_says_against_the_live_run_is_set_right(
    bench: Bench, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    run = bench.run("1")
    bench.server.taskruns = [failed_taskrun(run, "test-backend")]
    if by == "watch":
        bench.start()
    forge_finished(bench, run, SUCCEEDED)
    bench.server.put(ended(run, good=False))
    if by == "list":
        bench.run("another that has begun")
        bench.follower.reconcile()
    wait_until(lambda: bench.job(run)["failed_task"], what="the truth")
    assert bench.outcome(run) == (FAILED, "Failed", "test-backend (Failed)")
    assert "journal contradicts the cluster and is set right" in caplog.messages
    bench.wait_reported([FAILED])


def test_what_the_journal_says_against_the_cluster_is_set_right_while_no_run_is_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.run("1")
    bench.server.put(ended(run, good=False))
    bench.follower.reconcile()
    assert bench.outcome(run)[0] == FAILED
    forge_finished(bench, run, SUCCEEDED)
    lists = bench.server.count(LIST)
    for _ in range(3):
        bench.follower.reconcile()
    # Just now it was listed.
    assert bench.server.count(LIST) == lists
    monkeypatch.setattr("receiver.work.follow._IDLE_SECONDS", 0.0)
    bench.follower.reconcile()
    assert bench.server.count(LIST) == lists + 1
    assert bench.job(run)["result"] == FAILED


@pytest.mark.usefixtures("impatient")
def test_the_lines_about_an_outcome_say_of_which_push_and_which_run_it_is(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = bench.run("1")
    bench.server.put(ended(run, good=False))
    bench.follower.reconcile()
    forge_finished(bench, run, SUCCEEDED)
    bench.run("another that has begun")
    bench.follower.reconcile()
    job = bench.job(run)
    said = {
        "delivery": job["guid"],
        "trigger": TRIGGER,
        "repository": REPOSITORY,
        "ref": job["ref"],
        "sha": job["head_sha"],
    }
    said |= {"run": run["metadata"]["name"], "result": FAILED}
    wrong = "journal contradicts the cluster and is set right"
    lines = [vars(record) for record in caplog.records if record.message in ("run ended", wrong)]
    assert [line["message"] for line in lines] == ["run ended", wrong, "run ended"]
    assert [{field: line[field] for field in said} for line in lines] == [said] * 3


@pytest.mark.usefixtures("impatient")
def test_an_outcome_that_the_journal_has_right_is_left_alone(bench: Bench) -> None:
    run = bench.run("1")
    bench.start()
    bench.server.put(ended(run))
    bench.outcome(run)
    before = rows(bench.engine, transitions)
    bench.server.put({**ended(run), "touched": True})
    bench.server.delete(run["metadata"]["name"])
    bench.pass_by()
    of_run = [row for row in rows(bench.engine, transitions) if row["job_key"] == bench.job(run)["job_key"]]
    assert of_run == [row for row in before if row["job_key"] == bench.job(run)["job_key"]]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("good", [True, False])
def test_a_copy_of_a_run_changes_nothing_of_the_runs_outcome(
    bench: Bench, caplog: pytest.LogCaptureFixture, good: bool
) -> None:
    """`Rerun` in the Tekton Dashboard copies labels and annotations, the key too (its packages/api, rerunPipelineRun)."""
    run = bench.run("1")
    bench.start()
    bench.server.put(ended(run, good=good))
    result, _, _ = bench.outcome(run)
    copy = with_metadata(run, name=f"{run['metadata']['name']}-r-x7k2p", uid="copy")
    bench.server.put(ended(copy, good=not good))
    bench.pass_by()
    bench.run("another that has begun")
    bench.follower.reconcile()
    assert bench.job(run)["result"] == result
    assert "journal contradicts the cluster and is set right" not in caplog.messages


@pytest.mark.parametrize("by", ["watch", "list"])
def test_a_row_that_the_receiver_did_not_write_is_reported_and_nothing_is_recorded_from_then_on(
    bench: Bench, by: str
) -> None:
    run, other = bench.run("1"), bench.run("2")
    run_sql(bench.engine, "UPDATE jobs SET trigger = x'00' WHERE run_uid = 'uid-2'")
    before = rows(bench.engine, transitions)
    bench.start(relist_seconds=0.05 if by == "list" else NEVER_SECONDS)
    if by == "watch":
        bench.server.put(ended(run))
    wait_until(lambda: bench.tampered, what="the report")
    assert "did not write" in str(bench.tampered[0])
    bench.server.put(ended(other))
    bench.stop()
    assert rows(bench.engine, transitions) == before


# ---------------------------------------------------------------- the end


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
