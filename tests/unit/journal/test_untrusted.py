"""What the private plane believes of rows: nothing that the receiver would not have written, and all that it does write."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, update

from receiver.core.events import decode_push
from receiver.core.identity import is_job_of, job_key
from receiver.errors import TamperedError
from receiver.journal.changes import Job, finished, started
from receiver.journal.guard import guard
from receiver.journal.intake import ACCEPTED, DUPLICATE, PRUNED
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.queries import Records
from receiver.journal.schema import jobs, pushes, revivals
from receiver.journal.untrusted import unpacked
from tests.support.jobs import kill_all
from tests.support.journals import NOW, delivery, opened, rows, run_sql, statements_of, take

DAY = 86_400.0
SHORT = Retention(keep_days=1, keep_count=1_000, replay_window_days=300)


def claim(engine: Engine) -> list[Job]:
    return Jobs(engine).claim(now=NOW + DAY, limit=99, lease_seconds=1)


def finish_all(engine: Engine) -> None:
    queue = Jobs(engine)
    queue.apply([started(job, run_name="r", run_uid=str(job.id), at=NOW) for job in claim(engine)])
    ended = [
        finished(job, result="succeeded", reason="", message="", failed_task=None, at=NOW) for job in queue.started()
    ]
    queue.apply(ended)


def own(job: Job) -> bool:
    assert job.payload is not None
    push = decode_push(job.payload, with_files=False)
    return is_job_of(push, key=job.key, push_key=job.push_key, trigger=job.trigger, generation=job.generation)


def test_a_push_that_joins_one_whose_payload_was_pruned_stands_for_itself_and_runs_what_has_not_run(
    engine: Engine,
) -> None:
    take(engine, delivery(id="a", pushed_at=1, triggers=("old",)))
    finish_all(engine)
    prune(engine, SHORT, now=NOW + 2 * DAY)
    assert rows(engine, pushes) == []
    joining = delivery(id="a", pushed_at=2, triggers=("old", "new"))
    (receipt,) = take(engine, joining)
    assert (receipt.result, [view.state for view in receipt.jobs]) == (ACCEPTED, [PRUNED, "waiting"])
    (job,) = claim(engine)
    assert (job.trigger, job.payload) == ("new", joining.payload)
    assert own(job)
    for again in (joining, delivery(id="b", pushed_at=2, triggers=("old", "new"))):
        (receipt,) = take(engine, again)
        assert (receipt.result, [view.state for view in receipt.jobs]) == (DUPLICATE, [PRUNED, "waiting"])
    assert len(rows(engine, jobs)) == 1


STEP = st.one_of(
    st.builds(
        lambda seed, id, at, triggers: delivery(seed, id=id, pushed_at=at, triggers=triggers),  # noqa: A006 - as GitHub
        st.sampled_from("12"),
        st.sampled_from("ab"),
        st.sampled_from([1, 2, None]),
        st.sampled_from([("one",), ("two",), ("one", "two")]),
    ),
    st.sampled_from(["finish", "prune"]),
)


@given(steps=st.lists(STEP, max_size=12))
@settings(max_examples=80, deadline=None)
def test_every_job_that_the_receiver_writes_belongs_to_its_payload(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as engine:
        runs: list[tuple[str, bytes]] = []
        for step in steps:
            if step == "prune":
                prune(engine, SHORT, now=NOW + 2 * DAY)
            elif step == "finish":
                finish_all(engine)
            else:
                take(engine, step)
            waiting = claim(engine)
            assert all(own(job) for job in waiting)
            Jobs(engine).release(waiting)
            runs += [(job.trigger, job.key) for job in waiting if (job.trigger, job.key) not in runs]
        assert len({key for _, key in runs}) == len(runs)


@given(
    st.binary(max_size=200),
    st.sampled_from(["trigger", "generation", "push_key", "key", "content"]),
)
def test_a_job_belongs_to_no_payload_but_its_own(other: bytes, changed: str) -> None:
    new = delivery()
    assert new.push is not None
    assert new.keys is not None
    key = job_key(new.keys.by_time, "striv", 1)
    facts: dict[str, Any] = {"key": key, "push_key": new.keys.by_time, "trigger": "striv", "generation": 1}
    assert is_job_of(new.push, **facts)
    push = new.push
    if changed == "content":
        content = delivery("another").push
        assert content is not None
        push = content
    else:
        facts[changed] = {"trigger": "other", "generation": 2}.get(changed, other)
    assert not is_job_of(push, **facts)


@given(st.binary(max_size=2_000), st.integers(1, 3_000))
def test_a_payload_is_unpacked_whole_or_not_at_all(payload: bytes, limit: int) -> None:
    packed = zlib.compress(payload)
    found = unpacked(packed, limit_bytes=limit)
    # At the limit itself either is right: what is stored is never near it.
    assert found in ([payload] if len(payload) < limit else [None] if len(payload) > limit else [payload, None])
    assert unpacked(packed[:-1], limit_bytes=limit) is None


@given(st.binary(max_size=200))
def test_garbage_is_no_payload_and_no_error(garbage: bytes) -> None:
    found = unpacked(garbage, limit_bytes=100)
    assert found is None or len(found) <= 100


def test_a_body_that_is_too_long_to_be_a_payload_is_not_even_fetched(engine: Engine) -> None:
    take(engine, delivery())
    with engine.begin() as connection:
        connection.execute(update(pushes).values(body=zlib.compress(b"x" * 5_000, 0)))
    (job,) = Jobs(engine, longest_payload_bytes=4_000).claim(now=NOW, limit=1, lease_seconds=1)
    assert job.payload is None


@pytest.mark.parametrize(
    "forged",
    [
        "lease = 'x'",
        "lease = 9223372036854775807",
        "attempts = 'x'",
        "salt = x'00'",
        "generation = 1.5",
        "waiting_since = 'now'",
        "waiting_since = 9e999",
        "job_key = 'text'",
        "job_key = 32",
        "job_key = 1000000000000000",
        "push_key = x'00'",
        "trigger = x'00'",
        "guid = 7.5e300 || x'ff'",
        "run_name = x'00'",
    ],
)
def test_a_row_that_no_column_allows_is_an_error_with_a_name(engine: Engine, forged: str) -> None:
    take(engine, delivery())
    run_sql(engine, "PRAGMA foreign_keys=OFF", f"UPDATE jobs SET {forged}")  # noqa: S608 - our own
    if "guid" in forged:
        run_sql(engine, "UPDATE jobs SET guid = CAST(guid AS BLOB)")
    with pytest.raises(TamperedError, match="did not write"):
        claim(engine)


KEYS = ["'text'", "32", "1000000000000000", "x'00'"]


@pytest.mark.parametrize("forged", KEYS)
def test_a_revival_that_is_no_key_is_an_error_with_a_name(engine: Engine, forged: str) -> None:
    with engine.begin() as connection:
        connection.execute(revivals.insert().values(job_key=b"\0" * 32, guid="", asked_at=0.0))
    run_sql(engine, f"UPDATE revivals SET job_key = {forged}")  # noqa: S608 - our own
    with pytest.raises(TamperedError, match="did not write"):
        claim(engine)


@pytest.mark.parametrize("forged", KEYS)
def test_what_names_nothing_keeps_nothing_else_from_being_pruned(engine: Engine, forged: str) -> None:
    for seed in ("forged", "own"):
        take(engine, delivery(seed))
    finish_all(engine)
    run_sql(
        engine,
        "PRAGMA foreign_keys=OFF",
        f"UPDATE jobs SET job_key = {forged}, push_key = {forged} WHERE id = 1",  # noqa: S608 - our own
        f"UPDATE transitions SET job_key = {forged} WHERE id = 1",  # noqa: S608 - as above
    )
    prune(engine, Retention(1, 1_000, 1), now=NOW + 9 * 86_400)
    assert {row["id"] for row in rows(engine, jobs)} <= {1}


@pytest.mark.parametrize("forged", KEYS)
def test_a_person_who_deals_with_what_is_dead_is_told_of_a_forged_key(engine: Engine, forged: str) -> None:
    take(engine, delivery())
    kill_all(engine)
    run_sql(engine, f"UPDATE jobs SET job_key = {forged}")  # noqa: S608 - our own
    records = Records(engine)
    for deal in (records.retry, records.dismiss):
        with pytest.raises(TamperedError, match="did not write"):
            deal(None, now=NOW)


@pytest.mark.parametrize("forged", KEYS)
def test_a_delivery_of_a_forged_key_is_listed_without_jobs(engine: Engine, forged: str) -> None:
    take(engine, delivery())
    run_sql(engine, f"UPDATE deliveries SET push_key = {forged}")  # noqa: S608 - our own
    (found,) = Records(engine).recent(limit=10)
    assert found.jobs == ()


def test_a_time_that_is_none_is_due_at_no_time(engine: Engine) -> None:
    take(engine, delivery())
    run_sql(engine, "UPDATE jobs SET due_at = 'x', lease_until = 'x'")
    assert Jobs(engine).next_due(now=NOW) is None


def test_what_is_planted_after_the_start_is_noticed_by_the_next_transaction(tmp_path: Path) -> None:
    with opened(tmp_path) as engine, opened(tmp_path) as attacker:
        guard(engine)
        take(engine, delivery("1"))
        run_sql(attacker, "CREATE TRIGGER planted AFTER INSERT ON deliveries BEGIN DELETE FROM keys; END")
        for step in (
            lambda: take(engine, delivery("2")),
            lambda: claim(engine),
            lambda: Records(engine).recent(limit=1),
        ):
            with pytest.raises(TamperedError, match="trigger planted"):
                step()
        run_sql(attacker, "DROP TRIGGER planted")
        assert take(engine, delivery("2"))[0].result == ACCEPTED


def test_a_guard_costs_no_second_look_while_the_schema_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        guard(engine)
        take(engine, delivery("1"))
        with statements_of(engine) as seen:
            take(engine, delivery("2"))
        assert [statement for statement in seen if "sqlite_master" in statement] == []
