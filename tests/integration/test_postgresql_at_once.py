"""Replicas and workers that use PostgreSQL at once: what SQLite's one writer made easy has to hold here too."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from receiver.journal.changes import Change, Job, finished, postponed
from receiver.journal.engine import open_engine
from receiver.journal.intake import ACCEPTED, DUPLICATE, Intake, Receipt
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.queries import Records
from receiver.journal.rows import Wanted
from receiver.journal.schema import deliveries, jobs, pushes
from tests.support.jobs import claim, end, start
from tests.support.journals import NOW, count, delivery, ignored, run_sql, statements_of, take
from tests.support.postgres import SERVE, WORK, Database

DAY = 86_400.0


def between_look_and_insert(engine: Engine, action: Callable[[], object]) -> None:
    """Let another replica act once while this engine's next batch is between its look and its first insert."""
    left = [action]

    @event.listens_for(engine, "before_cursor_execute")
    def _before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO deliveries") and left:
            left.pop()()


def test_two_workers_that_prune_at_the_same_time_count_each_delivery_once(serve: Engine, database: Database) -> None:
    take(serve, *(ignored() for _ in range(1_200)))
    retention = Retention(keep_days=1, keep_count=10_000, replay_window_days=30)
    with database.engine(WORK) as one, database.engine(WORK) as two, ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda engine: prune(engine, retention, now=NOW + 2 * DAY), (one, two)))
        assert sum(counts) == 1_200
        assert count(one, deliveries) == 0


def test_of_two_replicas_that_store_the_same_push_at_the_same_time_one_accepts_it(database: Database) -> None:
    with database.engine(SERVE) as slow, database.engine(SERVE) as quick, database.engine(WORK) as work:
        between_look_and_insert(slow, lambda: take(quick, delivery("1", id="a")))
        receipts = take(slow, delivery("1", id="b"), delivery("2"))
        assert [receipt.result for receipt in receipts] == [DUPLICATE, ACCEPTED]
        assert [count(work, table) for table in (deliveries, jobs, pushes)] == [3, 2, 2]


def test_replicas_that_store_the_same_pushes_in_any_order_lose_none_and_double_none(database: Database) -> None:
    replicas, batches = 4, 12
    everything = [[delivery(f"{batch}-{number}") for number in range(8)] for batch in range(batches)]
    begin = threading.Barrier(replicas, timeout=30)

    def deliver(replica: int) -> list[Receipt]:
        with database.engine(SERVE) as engine:
            intake = Intake(engine, woken=lambda: None)
            found: list[Receipt] = []
            for batch in everything:
                begin.wait()
                # Each in an order of its own: this is what makes replicas wait for each other in a circle.
                found += intake.take(sorted(batch, key=lambda each: hash((replica, each.envelope.guid))))
            return found

    with ThreadPoolExecutor(replicas) as pool:
        receipts = [receipt for found in pool.map(deliver, range(replicas)) for receipt in found]
    assert Counter(receipt.result for receipt in receipts) == {ACCEPTED: 96, DUPLICATE: 96 * (replicas - 1)}
    with database.engine(WORK) as work:
        assert [count(work, table) for table in (jobs, pushes, deliveries)] == [96, 96, 96 * replicas]


def test_two_workers_never_claim_the_same_job(serve: Engine, database: Database) -> None:
    take(serve, *(delivery(str(number)) for number in range(120)))
    begin = threading.Barrier(3, timeout=30)

    def claim_all(engine: Engine) -> list[int]:
        found: list[int] = []
        begin.wait()
        while len(found) < 120 and Jobs(engine).next_due(now=NOW) == NOW:
            found += [job.id for job in claim(engine, limit=7)]
        return found

    with database.engine() as one, database.engine() as two, database.engine() as three, ThreadPoolExecutor(3) as pool:
        claimed = [number for found in pool.map(claim_all, (one, two, three)) for number in found]
    assert sorted(claimed) == list(range(1, 121))


@contextmanager
def claiming(database: Database, **more: Any) -> Iterator[list[Job]]:
    """A worker that has claimed and not committed yet."""
    ready, go = threading.Event(), threading.Event()
    found: list[Job] = []
    with database.engine() as engine, ThreadPoolExecutor(1) as pool:

        @event.listens_for(engine, "commit")
        def _held(_connection: Any) -> None:
            ready.set()
            assert go.wait(10)

        def run() -> None:
            found.extend(claim(engine, **more))

        future = pool.submit(run)
        try:
            assert ready.wait(10)
            yield found
        finally:
            go.set()
            future.result(10)


def test_a_worker_does_not_wait_for_what_another_has_in_hand(serve: Engine, work: Engine, database: Database) -> None:
    take(serve, delivery("1"))
    with claiming(database), statements_of(work) as seen:
        assert claim(work) == []
    assert any("SKIP LOCKED" in statement for statement in seen)


def test_workers_that_count_at_the_same_time_keep_the_bound_together(serve: Engine, database: Database) -> None:
    take(serve, *(delivery(str(number)) for number in range(12)))
    begin = threading.Barrier(4, timeout=30)

    def claim_bounded(engine: Engine) -> int:
        begin.wait()
        return sum(len(claim(engine, limit=2, max_active={"striv": 5})) for _ in range(6))

    with ThreadPoolExecutor(4) as pool:
        engines = [open_engine(database.url(WORK), durable=False) for _ in range(4)]
        assert sum(pool.map(claim_bounded, engines)) == 5
    for engine in engines:
        engine.dispose()


def test_workers_that_record_the_same_outcomes_in_opposite_orders_do_not_wait_for_each_other(
    serve: Engine, database: Database
) -> None:
    take(serve, *(delivery(str(number)) for number in range(40)))
    begin = threading.Barrier(2, timeout=30)

    def record(engine: Engine, known: list[Any]) -> int:
        changes: list[Change] = [
            finished(job, result="succeeded", reason="", message="", failed_task=None, at=NOW) for job in known
        ]
        begin.wait()
        return sum(Jobs(engine).apply(changes))

    with database.engine() as one, database.engine() as two, ThreadPoolExecutor(2) as pool:
        for job in claim(one, limit=40):
            start(one, job, f"uid-{job.id}")
        known = Jobs(one).started()
        counted = [pool.submit(record, one, known), pool.submit(record, two, known[::-1])]
        assert sum(each.result(20) for each in counted) == 40


def test_a_late_worker_changes_nothing(serve: Engine, database: Database) -> None:
    take(serve, delivery())
    with database.engine() as one, database.engine() as two:
        (late,) = claim(one)
        (quick,) = claim(two, now=NOW + 11)
        assert quick.id == late.id
        late_step = postponed(late, due_at=NOW, reason="", at=NOW, counts=True, in_doubt=True)
        assert Jobs(one).apply([late_step]) == [False]
        start(two, quick)


def test_a_job_that_comes_in_while_its_payload_is_pruned_brings_its_payload_with_it(
    serve: Engine, work: Engine
) -> None:
    """The push is long done and forgotten but for its payload; a trigger that was added since wants a redelivery of it."""
    take(serve, delivery("1", triggers=("old",)))
    for job in claim(work):
        start(work, job)
    end(work)
    run_sql(work, "DELETE FROM deliveries")
    new = delivery("1", triggers=("new",))
    retention = Retention(keep_days=1, keep_count=100, replay_window_days=300)
    between_look_and_insert(serve, lambda: prune(work, retention, now=NOW + 9 * DAY))
    assert take(serve, new)[0].result == ACCEPTED
    (job,) = claim(work)
    assert (job.trigger, job.payload) == ("new", new.payload)


def test_two_people_who_replay_the_same_push_get_a_run_each(serve: Engine, database: Database) -> None:
    new = delivery()
    take(serve, new)
    push = new.push
    assert push is not None
    begin = threading.Barrier(2, timeout=30)

    def replay(engine: Engine) -> int:
        begin.wait()
        (job,) = Records(engine).replay("1", push, [Wanted("striv", "striv-")], now=NOW)
        return job.generation

    with database.engine() as one, database.engine() as two, ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(replay, (one, two))) == [2, 3]
