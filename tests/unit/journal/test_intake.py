"""What becomes of a delivery: what is stored of it, and what its transaction may do."""

from __future__ import annotations

import dataclasses
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from receiver.core.identity import job_key, run_name
from receiver.errors import JournalError
from receiver.journal.intake import ACCEPTED, IGNORED, Intake, JobView, NewDelivery, Receipt
from receiver.journal.schema import WAITING, deliveries, jobs, keys, pushes, transitions
from tests.support.jobs import kill_all
from tests.support.journals import NOW, TRIGGER, count, delivery, ignored, opened, rows, statements_of, take


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


def test_two_triggers_are_two_jobs_with_one_body(engine: Engine) -> None:
    (receipt,) = take(engine, delivery(triggers=("one", "two")))
    assert [job.trigger for job in receipt.jobs] == ["one", "two"]
    assert len({row["job_key"] for row in rows(engine, jobs)}) == 2
    assert count(engine, pushes) == 1


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


def test_of_a_detail_that_names_an_endless_path_the_begin_is_kept(engine: Engine) -> None:
    take(engine, dataclasses.replace(ignored("path-filtered"), detail="d" * 10**6))
    (row,) = rows(engine, deliveries)
    assert row["detail"] == "d" * 2_000


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
