"""What becomes of a delivery: new, duplicate, revived, ignored; whatever else happens at the same time."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from receiver.core.identity import job_key, run_name
from receiver.errors import JournalError
from receiver.journal.changes import died, finished, started
from receiver.journal.intake import ACCEPTED, DUPLICATE, IGNORED, PRUNED, Intake, JobView, NewDelivery, Receipt
from receiver.journal.jobs import Jobs
from receiver.journal.schema import (
    DEAD,
    FINISHED,
    STARTED,
    WAITING,
    deliveries,
    jobs,
    keys,
    pushes,
    revivals,
    transitions,
)
from tests.support.journals import (
    NOW,
    TRIGGER,
    count,
    delivery,
    guid,
    ignored,
    opened,
    rows,
    run_sql,
    sha,
    statements_of,
    take,
)


def kill_all(engine: Engine) -> None:
    queue = Jobs(engine)
    claimed = queue.claim(now=NOW, limit=100, lease_seconds=10)
    assert claimed
    assert all(queue.apply([died(job, reason="refused", message="no", at=NOW) for job in claimed]))


def start_all(engine: Engine) -> None:
    queue = Jobs(engine)
    claimed = queue.claim(now=NOW, limit=100, lease_seconds=10)
    assert claimed
    assert all(queue.apply([started(job, run_name="striv-x", run_uid=f"uid-{job.id}", at=NOW) for job in claimed]))


def finish_all(engine: Engine) -> None:
    start_all(engine)
    queue = Jobs(engine)
    changes = [
        finished(job, result="succeeded", reason="Succeeded", message="", failed_task=None, at=NOW)
        for job in queue.started()
    ]
    assert all(queue.apply(changes))


def test_a_new_push_becomes_a_waiting_job_with_its_body_keys_and_first_transition(engine: Engine) -> None:
    new = delivery()
    assert new.keys is not None
    key = job_key(new.keys.by_time, TRIGGER, 1)
    name = run_name("striv-", key)
    assert take(engine, new) == [Receipt(ACCEPTED, (JobView(TRIGGER, name, WAITING),), in_flight=True)]
    (job,) = rows(engine, jobs)
    assert (job["job_key"], job["state"], job["run_name"], job["generation"]) == (key, WAITING, name, 1)
    assert (job["due_at"], job["waiting_since"], job["attempts"], job["lease"]) == (NOW, NOW, 0, 0)
    (stored,) = rows(engine, pushes)
    assert zlib.decompress(stored["body"]) == new.payload
    assert stored["body_bytes"] == len(new.payload)
    assert {row["key"] for row in rows(engine, keys)} == {key, new.keys.by_time, new.keys.by_guid}
    (transition,) = rows(engine, transitions)
    assert (transition["from_state"], transition["to_state"], transition["reason"]) == ("", WAITING, "matched")
    (row,) = rows(engine, deliveries)
    assert (row["guid"], row["result"], row["push_key"]) == (new.envelope.guid, ACCEPTED, new.keys.by_time)


@pytest.mark.parametrize("prepare", [None, start_all])
def test_a_redelivery_of_something_in_flight_is_a_duplicate_that_names_the_same_run(
    engine: Engine, prepare: Any
) -> None:
    (first,) = take(engine, new := delivery())
    if prepare:
        prepare(engine)
    (again,) = take(engine, new)
    assert (again.result, again.in_flight) == (DUPLICATE, True)
    assert again.jobs[0].state == (STARTED if prepare else WAITING)
    assert again.jobs[0].run_name == ("striv-x" if prepare else first.jobs[0].run_name)
    assert (count(engine, jobs), count(engine, pushes), count(engine, deliveries)) == (1, 1, 2)


def test_a_redelivery_of_something_done_is_a_duplicate_with_nothing_in_flight(engine: Engine) -> None:
    take(engine, new := delivery())
    finish_all(engine)
    (again,) = take(engine, new)
    assert (again.result, again.in_flight, again.jobs[0].state) == (DUPLICATE, False, FINISHED)
    assert count(engine, jobs) == 1


def test_a_redelivery_of_something_dead_asks_for_its_revival_and_changes_no_row(engine: Engine) -> None:
    take(engine, new := delivery())
    kill_all(engine)
    (again,) = take(engine, dataclasses.replace(new, received_at=NOW + 5))
    assert (again.result, again.in_flight, again.jobs[0].state) == (DUPLICATE, True, WAITING)
    assert rows(engine, jobs)[0]["state"] == DEAD
    (asked,) = rows(engine, revivals)
    assert (asked["job_key"], asked["asked_at"]) == (rows(engine, jobs)[0]["job_key"], NOW + 5)
    (job,) = Jobs(engine).claim(now=NOW + 5, limit=10, lease_seconds=10)
    assert (job.attempts, job.waiting_since) == (0, NOW + 5)
    assert count(engine, revivals) == 0
    assert [(row["from_state"], row["to_state"]) for row in rows(engine, transitions)] == [
        ("", WAITING),
        (WAITING, DEAD),
        (DEAD, WAITING),
    ]


def test_a_dead_job_that_is_redelivered_many_times_lives_once(engine: Engine) -> None:
    take(engine, new := delivery())
    kill_all(engine)
    take(engine, new, new)
    take(engine, new)
    assert len(Jobs(engine).claim(now=NOW, limit=10, lease_seconds=10)) == 1
    assert count(engine, revivals) == 0


def test_a_push_of_which_only_the_keys_are_left_is_a_duplicate(engine: Engine) -> None:
    (first,) = take(engine, new := delivery())
    run_sql(engine, "DELETE FROM jobs", "DELETE FROM pushes", "DELETE FROM deliveries", "DELETE FROM transitions")
    replayed = delivery(id=guid())
    for captured in (new, replayed):
        (again,) = take(engine, captured)
        assert (again.result, again.in_flight) == (DUPLICATE, False)
        assert again.jobs == (JobView(TRIGGER, first.jobs[0].run_name, PRUNED),)
    assert (count(engine, jobs), count(engine, pushes), count(engine, deliveries)) == (0, 0, 2)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    ("second", "is_new"),
    [
        ({"id": "b", "pushed_at": 1}, False),
        ({"id": "a", "pushed_at": 2}, False),
        ({"id": "b", "pushed_at": 2}, True),
        ({"id": "a", "pushed_at": 1, "seed": "2"}, True),
        ({"id": "a", "pushed_at": 1, "branch": "other"}, True),
        ({"id": "a", "pushed_at": 1, "before": sha("x")}, True),
        ({"id": "a", "pushed_at": None}, False),
        ({"id": "b", "pushed_at": None}, True),
    ],
)
def test_equal_content_with_equal_time_or_equal_guid_joins_and_a_guid_alone_never(
    engine: Engine, second: dict[str, Any], is_new: bool, batched: bool
) -> None:
    pair = delivery("1", id="a", pushed_at=1), delivery(**{"seed": "1", **second})
    receipts = take(engine, *pair) if batched else [take(engine, each)[0] for each in pair]
    assert [receipt.result for receipt in receipts] == [ACCEPTED, ACCEPTED if is_new else DUPLICATE]
    assert count(engine, jobs) == (2 if is_new else 1)


def test_a_body_that_comes_again_and_again_under_new_guids_leaves_no_key(engine: Engine) -> None:
    take(engine, delivery(id="a"))
    before = rows(engine, keys)
    assert {receipt.result for receipt in take(engine, *(delivery() for _ in range(20)))} == {DUPLICATE}
    assert rows(engine, keys) == before


def test_what_joined_by_guid_is_known_by_its_time_from_then_on(engine: Engine) -> None:
    first, joining, third = (delivery(id=i, pushed_at=at) for i, at in (("a", 1), ("a", 2), ("c", 2)))
    results = [take(engine, each)[0].result for each in (first, joining, third)]
    assert results == [ACCEPTED, DUPLICATE, DUPLICATE]
    assert len({row["push_key"] for row in rows(engine, deliveries)}) == 1


def test_two_deliveries_of_one_batch_can_join_a_stored_push_one_through_the_other(engine: Engine) -> None:
    take(engine, delivery(id="a", pushed_at=1, triggers=("one", "two")))
    receipts = take(
        engine,
        delivery(id="a", pushed_at=2, triggers=("one",)),
        delivery(id="c", pushed_at=2, triggers=("one", "two")),
    )
    assert [receipt.result for receipt in receipts] == [DUPLICATE, DUPLICATE]
    assert count(engine, jobs) == 2


@pytest.mark.parametrize("batched", [True, False])
def test_pushing_back_and_forth_starts_as_many_jobs_as_pushes(engine: Engine, batched: bool) -> None:
    one, two = sha("A"), sha("B")
    moves = [
        delivery(pushed_at=at, before=before, after=after, head_commit={"id": after})
        for at, (before, after) in enumerate([(one, two), (two, one), (one, two), (two, one)], start=100)
    ]
    receipts = take(engine, *moves) if batched else [take(engine, move)[0] for move in moves]
    assert [receipt.result for receipt in receipts] == [ACCEPTED] * 4
    assert len({receipt.jobs[0].run_name for receipt in receipts}) == 4


def test_two_triggers_are_two_jobs_with_one_body(engine: Engine) -> None:
    (receipt,) = take(engine, delivery(triggers=("one", "two")))
    assert [job.trigger for job in receipt.jobs] == ["one", "two"]
    assert len({row["job_key"] for row in rows(engine, jobs)}) == 2
    assert count(engine, pushes) == 1


@pytest.mark.parametrize("prepare", [None, finish_all])
def test_a_trigger_that_is_added_later_gets_its_job_from_a_redelivery(engine: Engine, prepare: Any) -> None:
    take(engine, delivery(triggers=("one",)))
    if prepare:
        prepare(engine)
    (receipt,) = take(engine, delivery(triggers=("one", "two")))
    assert (receipt.result, receipt.in_flight) == (ACCEPTED, True)
    assert [job.state for job in receipt.jobs] == [FINISHED if prepare else WAITING, WAITING]
    assert [row["trigger"] for row in rows(engine, jobs)] == ["one", "two"]
    assert count(engine, pushes) == 1


def test_a_trigger_that_is_added_after_the_pruning_brings_the_body_back_for_itself_alone(engine: Engine) -> None:
    take(engine, delivery(triggers=("one",)))
    run_sql(engine, "DELETE FROM jobs", "DELETE FROM pushes")
    (receipt,) = take(engine, delivery(triggers=("one", "two")))
    assert [job.state for job in receipt.jobs] == [PRUNED, WAITING]
    (job,) = Jobs(engine).claim(now=NOW, limit=10, lease_seconds=10)
    assert (job.trigger, job.payload) == ("two", delivery(triggers=("one", "two")).payload)


def test_a_batch_that_holds_a_push_twice_makes_one_job(engine: Engine) -> None:
    receipts = take(engine, delivery(id="a"), delivery(id="b"), delivery("2"), delivery(id="a"))
    assert [receipt.result for receipt in receipts] == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE]
    assert [receipt.in_flight for receipt in receipts] == [True] * 4
    assert (count(engine, jobs), count(engine, pushes)) == (2, 2)


def test_an_ignored_delivery_is_recorded_and_nothing_else(engine: Engine) -> None:
    assert take(engine, ignored("deleted", id="g")) == [Receipt(IGNORED)]
    (row,) = rows(engine, deliveries)
    assert (row["guid"], row["result"], row["reason"], row["push_key"]) == ("g", IGNORED, "deleted", None)
    assert [count(engine, table) for table in (jobs, pushes, keys, transitions)] == [0, 0, 0, 0]


def test_an_ignored_push_keeps_what_it_was_about(engine: Engine) -> None:
    new = delivery(branch="release")
    take(engine, dataclasses.replace(new, wanted=(), keys=None, payload=b"", reason="branches", detail="no pattern"))
    (row,) = rows(engine, deliveries)
    assert new.push is not None
    assert (row["repository"], row["ref"]) == ("bittrance/striv", "refs/heads/release")
    assert (row["head_sha"], row["detail"]) == (new.push.head_sha, "no pattern")


def test_wanted_jobs_without_their_push_are_a_mistake_of_the_caller(engine: Engine) -> None:
    with pytest.raises(ValueError, match="needs its push"):
        take(engine, dataclasses.replace(delivery(), push=None))
    assert count(engine, deliveries) == 0


@pytest.mark.parametrize(("pushed_at", "kept_from"), [(int(NOW) - 60, NOW), (int(NOW) + 60, NOW + 60), (None, 1e15)])
def test_keys_are_kept_from_the_later_of_both_times_and_for_ever_without_one(
    engine: Engine, pushed_at: int | None, kept_from: float
) -> None:
    take(engine, delivery(pushed_at=pushed_at))
    assert {row["keep_from"] for row in rows(engine, keys)} == {kept_from}


def test_the_private_plane_is_woken_for_new_and_revived_jobs_only(engine: Engine) -> None:
    woken: list[int] = []
    intake = Intake(engine, woken=lambda: woken.append(count(engine, jobs)))
    intake.take([new := delivery()])
    assert woken == [1]
    intake.take([new, ignored()])
    assert woken == [1]
    kill_all(engine)
    intake.take([new])
    assert woken == [1, 1]


def test_the_public_plane_only_reads_and_inserts(engine: Engine) -> None:
    take(engine, delivery("dead"))
    kill_all(engine)
    with statements_of(engine) as seen:
        take(engine, delivery("dead"), delivery("new", triggers=("one", "two")), delivery("new"), ignored())
    assert {statement.split()[0] for statement in seen} == {"BEGIN", "SELECT", "INSERT"}


def test_ten_concurrent_deliveries_of_one_push_make_one_job(tmp_path: Path) -> None:
    start = threading.Barrier(10)
    with ExitStack() as stack:
        engines = [stack.enter_context(opened(tmp_path)) for _ in range(10)]

        def deliver(engine: Engine) -> Receipt:
            new = delivery()
            start.wait()
            return take(engine, new)[0]

        with ThreadPoolExecutor(10) as pool:
            receipts = list(pool.map(deliver, engines))
        assert sorted(receipt.result for receipt in receipts) == [ACCEPTED] + [DUPLICATE] * 9
        assert len({receipt.jobs for receipt in receipts}) == 1
        tables = (jobs, pushes, transitions, deliveries)
        assert [count(engines[0], table) for table in tables] == [1, 1, 1, 10]
        # For the time, for the job, and for the GUID that came first.
        assert count(engines[0], keys) == 3


def let_in_between(slow: Engine, quick: Engine, batches: Sequence[list[NewDelivery]]) -> None:
    """Between the look of `slow` and its inserts, let `quick` store one of `batches`, as two PostgreSQL replicas can.

    SQLite itself would make `quick` wait, so `slow` gives up its lock for that moment.
    """
    left = list(batches)

    @event.listens_for(slow, "before_cursor_execute")
    def _overtaken(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO deliveries") and left:
            connection.connection.driver_connection.execute("COMMIT")
            take(quick, *left.pop(0))
            connection.connection.driver_connection.execute("BEGIN IMMEDIATE")


def test_a_replica_that_was_overtaken_looks_again_and_joins(tmp_path: Path) -> None:
    with opened(tmp_path) as slow, opened(tmp_path) as quick:
        let_in_between(slow, quick, [[delivery("1")]])
        receipts = take(slow, delivery("1"), delivery("2"))
        assert [receipt.result for receipt in receipts] == [DUPLICATE, ACCEPTED]
        assert [count(quick, table) for table in (jobs, pushes, deliveries)] == [2, 2, 3]


def test_a_replica_can_be_overtaken_more_than_once(tmp_path: Path) -> None:
    with opened(tmp_path) as slow, opened(tmp_path) as quick:
        let_in_between(slow, quick, [[delivery("1")], [delivery("2")]])
        receipts = take(slow, delivery("1"), delivery("2"), delivery("3"))
        assert [receipt.result for receipt in receipts] == [DUPLICATE, DUPLICATE, ACCEPTED]
        assert count(quick, jobs) == 3


def test_a_replica_that_is_always_overtaken_gives_up_with_a_journal_error_and_stores_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as slow, opened(tmp_path) as quick:
        let_in_between(slow, quick, [[delivery(str(number))] for number in range(4)])
        with pytest.raises(JournalError, match="redeliver"):
            take(slow, *(delivery(str(number)) for number in range(8)))
        assert count(quick, jobs) == 4


def test_nothing_of_a_batch_is_stored_when_the_disk_is_full(engine: Engine) -> None:
    take(engine, delivery("before"))
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(JournalError, match="full"):
        take(engine, *(delivery(str(number)) for number in range(200)))
    assert [count(engine, table) for table in (deliveries, jobs, pushes, transitions)] == [1, 1, 1, 1]


SOME_DELIVERY = st.builds(
    lambda seed, pushed_at, id, triggers: delivery(seed, pushed_at=pushed_at, id=id, triggers=triggers),  # noqa: A006 - as GitHub
    st.sampled_from("12"),
    st.sampled_from([1, 2, None]),
    st.sampled_from("abc"),
    st.sampled_from([("one",), ("two",), ("one", "two")]),
)


@given(incoming=st.lists(st.lists(SOME_DELIVERY | st.builds(ignored), min_size=1, max_size=4), max_size=4))
@settings(max_examples=20, deadline=None)
def test_sharing_a_transaction_changes_nothing_for_anybody(incoming: list[list[NewDelivery]]) -> None:
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        together, apart = [stack.enter_context(opened(folder)) for folder in folders]
        batched = [receipt for batch in incoming for receipt in take(together, *batch)]
        single = [receipt for batch in incoming for each in batch for receipt in take(apart, each)]
        assert batched == single
        for table in (deliveries, jobs, pushes, keys, transitions):
            assert rows(together, table) == rows(apart, table)
