"""What people ask: find, retry, replay."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, event

from receiver.errors import NotFoundError, PermanentError
from receiver.journal.changes import died
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.queries import Records
from receiver.journal.rows import Wanted
from receiver.journal.schema import DEAD, REPLAY, WAITING, deliveries, jobs, keys, transitions
from tests.support.journals import NOW, count, delivery, ignored, rows, run_sql, take

AGAIN = [Wanted("striv", "striv-")]


def bury(engine: Engine) -> None:
    queue = Jobs(engine)
    claimed = queue.claim(now=NOW, limit=100, lease_seconds=10)
    queue.apply([died(job, reason="refused", message="HTTP 403: no", at=NOW) for job in claimed])


def test_deliveries_are_listed_newest_first_with_their_jobs(engine: Engine) -> None:
    take(engine, delivery("1", id="one", triggers=("a", "b")), ignored(id="two"))
    newest, oldest = Records(engine).recent(limit=5)
    assert (newest.guid, newest.jobs) == ("two", ())
    assert [job.trigger for job in oldest.jobs] == ["a", "b"]
    assert [each.guid for each in Records(engine).recent(limit=1)] == ["two"]


def test_a_delivery_is_found_by_number_guid_or_the_begin_of_one(engine: Engine) -> None:
    take(engine, delivery(id="abcdef-1"), delivery(id="abcdxx-2"))
    records = Records(engine)
    assert [records.find(wanted).guid for wanted in ("1", "abcdef-1", "ABCDE")] == ["abcdef-1"] * 3
    with pytest.raises(PermanentError, match="several"):
        records.find("abcd")
    for wanted in ("abc", "7", "zzzz", "%%%%", "²"):
        with pytest.raises(NotFoundError):
            records.find(wanted)


def test_of_equal_guids_the_newest_delivery_is_found(engine: Engine) -> None:
    take(engine, delivery(id="abcdef", now=NOW))
    take(engine, delivery(id="abcdef", now=NOW + 1))
    assert Records(engine).find("abcdef").received_at == NOW + 1


def test_retry_revives_the_dead_jobs_of_one_delivery_or_all(engine: Engine) -> None:
    take(engine, delivery("1", id="aaaa", triggers=("a", "b")), delivery("2", id="bbbb"), ignored(id="cccc"))
    bury(engine)
    records = Records(engine)
    assert records.retry("cccc", now=NOW) == 0
    assert records.retry("aaaa", now=NOW) == 2
    assert records.retry("aaaa", now=NOW) == 0
    assert records.retry(None, now=NOW) == 1
    assert {row["state"] for row in rows(engine, jobs)} == {WAITING}
    assert {(row["message"], row["reason"], row["finished_at"]) for row in rows(engine, jobs)} == {(None, None, None)}


def test_dismissing_ends_the_dead_jobs_of_one_delivery_or_all_and_keeps_why_they_died(engine: Engine) -> None:
    take(engine, delivery("1", id="aaaa", triggers=("a", "b")), delivery("2", id="bbbb"))
    bury(engine)
    take(engine, delivery("3", id="cccc"))
    records = Records(engine)
    assert records.dismiss("cccc", now=NOW) == 0
    assert records.dismiss("aaaa", now=NOW + 5) == 2
    assert records.dismiss(None, now=NOW + 6) == 1
    assert records.dismiss(None, now=NOW + 6) == 0
    done = [row for row in rows(engine, jobs) if row["guid"] != "cccc"]
    assert {(row["state"], row["result"], row["reason"], row["message"]) for row in done} == {
        ("finished", "dismissed", "refused", "HTTP 403: no")
    }
    assert [row["finished_at"] for row in done] == [NOW + 5, NOW + 5, NOW + 6]
    assert [row["state"] for row in rows(engine, jobs) if row["guid"] == "cccc"] == [WAITING]
    log = [row for row in rows(engine, transitions) if row["to_state"] == "finished"]
    assert {(row["from_state"], row["reason"]) for row in log} == {("dead", "dismissed by hand")}
    assert len(log) == 3


@pytest.mark.parametrize("how", ["retry", "dismiss"])
def test_many_are_retried_or_dismissed_some_at_a_time(
    engine: Engine, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.journal.queries._AT_A_TIME", 2)
    take(engine, *(delivery(str(number)) for number in range(5)))
    bury(engine)
    begun: list[None] = []
    event.listen(engine, "begin", lambda _connection: begun.append(None))
    assert getattr(Records(engine), how)(None, now=NOW) == 5
    assert len(begun) == 3
    assert DEAD not in {row["state"] for row in rows(engine, jobs)}


def test_what_is_dismissed_is_done_for_redeliveries_retries_and_the_pruning(engine: Engine) -> None:
    take(engine, new := delivery(id="aaaa"))
    bury(engine)
    take(engine, new)
    Records(engine).dismiss("aaaa", now=NOW)
    (again,) = take(engine, new)
    assert (again.result, again.in_flight, again.jobs[0].state) == ("duplicate", False, "finished")
    assert Jobs(engine).claim(now=NOW, limit=9, lease_seconds=1) == []
    assert Records(engine).retry(None, now=NOW) == 0
    assert prune(engine, Retention(1.0, 10, 30.0), now=NOW + 2 * 86_400) == 3
    assert count(engine, jobs) == 0
    assert take(engine, new)[0].result == "duplicate"


def test_a_replay_is_a_new_generation_with_a_name_of_its_own_and_is_recorded(engine: Engine) -> None:
    new = delivery(id="abcdef")
    assert new.push is not None
    take(engine, new)
    bury(engine)
    replayed = [Records(engine).replay("abcdef", new.push, AGAIN, now=NOW + at)[0] for at in (1, 2)]
    assert [job.generation for job in replayed] == [2, 3]
    assert len({row["run_name"] for row in rows(engine, jobs)}) == 3
    assert [row["source"] for row in rows(engine, deliveries)][1:] == [REPLAY, REPLAY]
    assert len(Jobs(engine).claim(now=NOW + 2, limit=9, lease_seconds=1)) == 2
    assert [(each.generation, each.to_state) for each in Records(engine).log(new.keys.by_time)] == [  # type: ignore[union-attr]  # a delivery of a push has keys
        (1, WAITING),
        (1, "dead"),
        (2, WAITING),
        (3, WAITING),
    ]


def test_a_redelivery_of_a_replayed_push_starts_nothing(engine: Engine) -> None:
    new = delivery(id="abcdef")
    assert new.push is not None
    take(engine, new)
    Records(engine).replay("abcdef", new.push, AGAIN, now=NOW)
    take(engine, new)
    assert count(engine, jobs) == 2


def test_a_replay_after_the_pruning_takes_a_generation_that_was_never_used(engine: Engine) -> None:
    new = delivery(id="abcdef")
    assert new.push is not None
    take(engine, new)
    for at in (1, 2):
        Records(engine).replay("abcdef", new.push, AGAIN, now=NOW + at)
    names = {row["run_name"] for row in rows(engine, jobs)}
    run_sql(engine, "DELETE FROM jobs", "DELETE FROM transitions")
    (job,) = Records(engine).replay("abcdef", new.push, AGAIN, now=NOW + 9)
    assert job.generation == 4
    assert job.run_name not in names
    assert count(engine, keys) == 6


def test_an_ignored_delivery_has_nothing_to_replay(engine: Engine) -> None:
    new = delivery()
    take(engine, ignored("branches", id="abcdef"))
    assert new.push is not None
    with pytest.raises(PermanentError, match="ignored"):
        Records(engine).replay("abcdef", new.push, AGAIN, now=NOW)


def test_a_stored_payload_is_handed_out_until_it_is_pruned(engine: Engine) -> None:
    new = delivery()
    take(engine, new)
    assert new.keys is not None
    assert Records(engine).payload(new.keys.by_time) == new.payload
    run_sql(engine, "DELETE FROM pushes")
    with pytest.raises(NotFoundError, match="no longer"):
        Records(engine).payload(new.keys.by_time)


def test_a_replay_does_not_count_as_a_delivery_of_github(engine: Engine) -> None:
    new = delivery(id="abcdef")
    assert new.push is not None
    take(engine, new)
    Records(engine).replay("abcdef", new.push, AGAIN, now=NOW + 9)
    assert Jobs(engine).summary()[2] == NOW
