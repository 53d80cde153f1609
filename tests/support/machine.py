"""The journal, its planes and its cluster as one machine that can be in any order of events: never lost, never doubled.

One class, and so one file however long: Hypothesis takes the rules and what must always hold from a single class.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select

from receiver.core.events import decode_push
from receiver.core.filters import PushFilter
from receiver.core.identity import job_key
from receiver.core.params import ParamReader
from receiver.core.triggers import Trigger, decide
from receiver.errors import TransientError
from receiver.journal.changes import Change
from receiver.journal.engine import reading
from receiver.journal.intake import ACCEPTED, DUPLICATE, Intake, NewDelivery
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.queries import Records
from receiver.journal.rows import Wanted
from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING, jobs
from receiver.journal.turns import DEAD_IN_DOUBT_SECONDS
from receiver.journal.writer import BatchWriter
from tests.support.journals import NOW, REPOSITORY, delivery, guid
from tests.support.simulation import FAULTS, NAMESPACE, SimulatedCluster, SimulatedWorker, key_of

MAX_ACTIVE = 2
DAY = 86_400.0
RETENTION = Retention(keep_days=0.1, keep_count=8, replay_window_days=30.0)
PICK = st.integers(0, 99)


def trigger(name: str, branches: list[str], max_active: int | None = None) -> Trigger:
    return Trigger(
        name=name,
        repository=REPOSITORY,
        filter=PushFilter.build(branches=branches),
        reader=ParamReader([]),
        template={
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "metadata": {"generateName": f"{name}-"},
            "spec": {},
        },
        name_prefix=f"{name}-",
        namespace=NAMESPACE,
        skip_markers=True,
        max_active=max_active,
    )


TRIGGERS = (trigger("striv", ["**"]), trigger("bounded", ["b*"], MAX_ACTIVE))


class Machine(RuleBasedStateMachine):
    """A journal, two workers, a cluster, and everything that can go wrong with them. A subclass says where the journal is."""

    def open_journal(self) -> AbstractContextManager[Engine]:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.engine = self.stack.enter_context(self.open_journal())
        self.jobs = Jobs(self.engine)
        self.recorder: BatchWriter[Change, bool] = BatchWriter(self.jobs.apply)
        self.stack.callback(self.recorder.close)
        self.cluster = SimulatedCluster()
        self.now = self.latest = NOW
        self.pushes = 0
        self.acknowledged: list[NewDelivery] = []
        self.expected: set[bytes] = set()
        self.given_up_counting: set[bytes] = set()
        self.zombies: list[SimulatedWorker] = []
        self.workers = [self.new_worker(), self.new_worker()]

    def new_worker(self) -> SimulatedWorker:
        return SimulatedWorker(
            jobs=self.jobs,
            recorder=self.recorder,
            cluster=self.cluster,
            triggers=TRIGGERS,
            clock=lambda: self.now,
        )

    def rows(self) -> list[Any]:
        columns = (
            jobs.c.job_key,
            jobs.c.trigger,
            jobs.c.state,
            jobs.c.finished_at,
            jobs.c.reason,
            jobs.c.run_name,
            jobs.c.run_uid,
            jobs.c.generation,
        )
        with reading(self.engine) as connection:
            return list(connection.execute(select(*columns)).all())

    def take(self, *batch: NewDelivery) -> list[str]:
        receipts = Intake(self.engine, woken=lambda: None).take(list(batch))
        return [receipt.result for receipt in receipts]

    # What GitHub and people do.

    @initialize()
    def begin(self) -> None:
        logging.disable(logging.CRITICAL)

    @rule(
        branches=st.lists(st.sampled_from(["main", "b1", "b1", "b2", "b2", "refused"]), min_size=1, max_size=4),
        twice=st.booleans(),
    )
    def push(self, branches: list[str], twice: bool) -> None:
        new = [self.new_delivery(branch) for branch in branches]
        assert self.take(*new, *(new if twice else [])) == [ACCEPTED] * len(new) + [DUPLICATE] * len(new) * twice
        self.acknowledged += new

    def new_delivery(self, branch: str) -> NewDelivery:
        self.pushes += 1
        new = delivery(f"push {self.pushes}", branch=branch, now=self.now, pushed_at=int(self.now))
        assert new.push is not None
        assert new.keys is not None
        matched = [decision.trigger.name for decision in decide(TRIGGERS, new.push) if decision.matched]
        self.expected |= {job_key(new.keys.by_time, name, 1) for name in matched}
        return dataclasses.replace(new, wanted=tuple(Wanted(name, f"{name}-") for name in matched))

    @precondition(lambda self: self.acknowledged)
    @rule(which=PICK, renamed=st.booleans())
    def redeliver(self, which: int, renamed: bool) -> None:
        old = self.acknowledged[which % len(self.acknowledged)]
        envelope = under_another_guid(old) if renamed else old.envelope
        assert self.take(dataclasses.replace(old, envelope=envelope, received_at=self.now)) == [DUPLICATE]

    @precondition(lambda self: self.acknowledged)
    @rule(which=PICK)
    def replay(self, which: int) -> None:
        old = self.acknowledged[which % len(self.acknowledged)]
        assert old.push is not None
        assert old.keys is not None
        records = Records(self.engine)
        known = [record for record in records.recent(limit=1_000) if record.guid == old.envelope.guid]
        if not known or not known[0].jobs:
            return
        again = Wanted("striv", "striv-")
        push = decode_push(records.payload(old.keys.by_time), with_files=False)
        (job,) = records.replay(old.envelope.guid, push, [again], now=self.now)
        self.expected.add(job_key(old.keys.by_time, "striv", job.generation))

    @rule()
    def retry_the_dead(self) -> None:
        Records(self.engine).retry(None, now=self.now)

    @rule()
    def prune(self) -> None:
        prune(self.engine, RETENTION, now=self.now)

    # What workers do, and what is done to them.

    @rule(which=PICK, moves=st.lists(PICK, max_size=12))
    def work(self, which: int, moves: list[int]) -> None:
        worker = self.workers[which % 2]
        worker.dispatcher.step()
        self.move(worker, moves)

    @rule(which=PICK)
    def work_to_the_end(self, which: int) -> None:
        worker = self.workers[which % 2]
        worker.dispatcher.step()
        self.move(worker, [0] * 1_000)

    @staticmethod
    def move(worker: SimulatedWorker, moves: list[int]) -> None:
        for task in moves:
            if worker.tasks:
                worker.steps.move(task)

    @precondition(lambda self: any(worker.tasks for worker in self.zombies))
    @rule(moves=st.lists(PICK, min_size=1, max_size=6))
    def a_stalled_worker_goes_on(self, moves: list[int]) -> None:
        self.move(next(worker for worker in self.zombies if worker.tasks), moves)

    @rule(which=PICK)
    def renew(self, which: int) -> None:
        self.workers[which % 2].dispatcher.renew_leases()

    @rule(which=PICK)
    def follow(self, which: int) -> None:
        with contextlib.suppress(TransientError):
            self.workers[which % 2].follower.reconcile()

    @rule(which=PICK, patient=st.booleans())
    def stop_and_start(self, which: int, patient: bool) -> None:
        worker = self.workers[which % 2]
        while patient and worker.steps.paused:
            worker.steps.move(0)
        late = bool(worker.steps.paused)
        assert worker.dispatcher.close(seconds=0.0) is not late
        if late:
            self.zombies.append(worker)
        self.workers[which % 2] = self.new_worker()

    @rule(which=PICK, stalled=st.booleans())
    def crash(self, which: int, stalled: bool) -> None:
        if stalled:
            self.zombies.append(self.workers[which % 2])
        self.workers[which % 2] = self.new_worker()

    # What the cluster and the clock do.

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def fault(self, faults: list[str]) -> None:
        self.cluster.faults.extend(faults)

    @rule(kind=st.sampled_from(["away", "webhook_down", "refusing"]))
    def turn(self, kind: str) -> None:
        setattr(self.cluster, kind, not getattr(self.cluster, kind))

    @rule(which=PICK)
    def plant_a_foreign_object(self, which: int) -> None:
        waiting = [row.run_name for row in self.rows() if row.state == WAITING]
        if waiting:
            self.cluster.plant(waiting[which % len(waiting)])

    @precondition(lambda self: self.cluster.running())
    @rule(which=PICK, good=st.booleans(), delete=st.booleans())
    def end_a_run(self, which: int, good: bool, delete: bool) -> None:
        running = self.cluster.running()
        run = running[which % len(running)]
        recorded = {row.run_uid for row in self.rows()}
        stalled = any(worker.tasks for worker in (*self.workers, *self.zombies))
        # A run that is deleted before its making was recorded, or while somebody is about to make it, is made again: the
        # cluster keeps no memory of it. Nobody but a person deletes a run that has not ended.
        if delete and run["metadata"]["uid"] in recorded and not stalled:
            del self.cluster.objects[run["metadata"]["name"]]
        else:
            self.cluster.finish(run["metadata"]["name"], good=good)

    @rule()
    def a_quiet_night(self) -> None:
        """Nothing is wrong for once: what waits is run, ends and is seen, and what is old is forgotten."""
        self.cluster.heal()
        self.time_passes(3 * 3_600.0)
        self.work_to_the_end(0)
        for run in self.cluster.running():
            self.cluster.finish(run["metadata"]["name"], good=True)
        self.workers[0].follower.reconcile()
        prune(self.engine, RETENTION, now=self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 61.0, 3_600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.latest = max(self.latest, self.now)

    @rule(seconds=st.sampled_from([-86_400.0, -3_600.0, -5.0, 5.0, 3_600.0, 86_400.0]))
    def the_clock_is_set(self, seconds: float) -> None:
        # Pruning forgets keys after the replay window, so a clock that is wrong by weeks is outside of the promise.
        if abs(self.now + seconds - NOW) < 10 * DAY:
            self.time_passes(seconds)

    # What has to hold at all times.

    @invariant()
    def no_job_has_two_runs(self) -> None:
        assert max(self.cluster.created.values(), default=0) <= 1

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        found = {bytes(row.job_key): row for row in self.rows()}
        for key in self.expected:
            row = found.get(key)
            if row is None or row.state in (STARTED, FINISHED):
                assert self.cluster.created[key.hex()] == 1, "forgotten, or called started, without a run"
            else:
                assert row.state == WAITING or (row.state == DEAD and row.reason)
        assert found.keys() <= self.expected

    @invariant()
    def a_bounded_trigger_stays_in_its_bounds(self) -> None:
        # A dead job's run can exist: what killed the job came after a stalled worker's request. It counts for a few hours.
        old = self.latest - DEAD_IN_DOUBT_SECONDS
        self.given_up_counting |= {
            bytes(row.job_key) for row in self.rows() if row.state == DEAD and row.finished_at <= old
        }
        exempt = {key.hex() for key in self.given_up_counting}
        labels = [run["metadata"]["labels"] for run in self.cluster.running() if key_of(run) not in exempt]
        assert sum(label["striv-receiver.dev/trigger"] == "bounded" for label in labels) <= MAX_ACTIVE

    # What has to come in the end.

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.stack.close()
            logging.disable(logging.NOTSET)

    def settle(self) -> None:
        """Faults end, time passes, and GitHub redelivers: every job gets its one run, and every run its outcome.

        Dead replays are revived by hand, since no delivery speaks for them. What crashed or stalls never comes back, or late.
        """
        self.cluster.heal()
        self.now = self.latest
        worker = self.new_worker()
        self.work_off(worker, revive=lambda: self.take(*self.acknowledged) if self.acknowledged else None)
        for zombie in self.zombies:
            self.move(zombie, [0] * 1_000)
        self.work_off(worker, revive=lambda: Records(self.engine).retry(None, now=self.now))
        self.no_job_has_two_runs()
        self.nothing_acknowledged_is_lost()
        nameless = {bytes(row.job_key) for row in self.rows() if row.reason == "name-taken"}
        assert {row.state for row in self.rows() if bytes(row.job_key) not in nameless} <= {FINISHED}
        assert {key for key in self.expected if self.cluster.created[key.hex()] != 1} <= nameless

    def work_off(self, worker: SimulatedWorker, *, revive: Callable[[], object]) -> None:
        revive()
        for _ in range(100):
            self.now += 61.0
            worker.dispatcher.step()
            self.move(worker, [0] * 1_000)
            for run in self.cluster.running():
                self.cluster.finish(run["metadata"]["name"], good=True)
            worker.follower.reconcile()
            if not {row.state for row in self.rows()} & {WAITING, STARTED}:
                break
        left = [row for row in self.rows() if row.state != FINISHED and row.reason != "name-taken"]
        assert all(row.state == DEAD and row.generation > 1 for row in left), left


def under_another_guid(old: NewDelivery) -> Any:
    return type(old.envelope)(event="push", guid=guid())


def play(machine: type[Machine], *, examples: int) -> None:
    """Play so many orders of events, or as many as MACHINE_EXAMPLES says."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("MACHINE_EXAMPLES", str(examples))),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
