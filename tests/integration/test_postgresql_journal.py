"""The journal on PostgreSQL, each plane as its own role, one step after the other: it does what SQLite does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from receiver.core.identity import job_key
from receiver.errors import ConflictError, TamperedError
from receiver.journal.changes import died
from receiver.journal.engine import writing
from receiver.journal.guard import check_objects, guard
from receiver.journal.intake import ACCEPTED, DUPLICATE, NewDelivery
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.queries import Records
from receiver.journal.rows import Wanted
from receiver.journal.schema import deliveries, jobs, keys, pushes, revivals
from tests.support.changes import assert_words_are_stored
from tests.support.jobs import claim, end, start
from tests.support.journals import NOW, count, delivery, ignored, opened, rows, run_sql, statements_of, take
from tests.support.postgres import OWNER, Database
from tests.support.turns import flooded, play, starving

DAY = 86_400.0


def test_a_delivery_is_stored_claimed_started_and_finished_each_by_the_plane_whose_part_it_is(
    serve: Engine, work: Engine
) -> None:
    new = delivery()
    assert [take(serve, new)[0].result for _ in range(2)] == [ACCEPTED, DUPLICATE]
    (job,) = claim(work)
    assert new.push is not None
    assert new.keys is not None
    assert job.payload == new.payload
    assert (job.key, job.push_key) == (job_key(new.keys.by_time, "striv", 1), new.keys.by_time)
    start(work, job)
    assert [each.key for each in Jobs(work).started()] == [job.key]
    end(work)
    record = Records(work).find(new.envelope.guid[:8])
    assert [each.state for each in record.jobs] == ["finished"]
    assert record.push_key is not None
    assert [(step.from_state, step.to_state) for step in Records(work).log(record.push_key)] == [
        ("", "waiting"),
        ("waiting", "started"),
        ("started", "finished"),
    ]
    assert Records(work).payload(record.push_key) == new.payload
    assert [each.id for each in Records(work).recent(limit=9)] == [2, 1]
    counts, oldest, newest = Jobs(work).summary()
    assert (counts["finished"], oldest, newest) == (1, None, NOW)


def test_a_ref_with_all_that_git_allows_is_kept_as_it_is(serve: Engine, work: Engine) -> None:
    new = delivery(branch="Größe/\U0001f680/';DROP-TABLE-jobs;--%s%(x)s")
    take(serve, new, ignored(id="g"))
    assert new.push is not None
    assert [row["ref"] for row in rows(work, deliveries)] == [new.push.ref, ""]


def test_a_dead_job_that_is_redelivered_lives_again(serve: Engine, work: Engine) -> None:
    new = delivery()
    take(serve, new)
    (job,) = claim(work)
    assert Jobs(work).apply([died(job, reason="refused", message="no", at=NOW)]) == [True]
    assert take(serve, new)[0].result == DUPLICATE
    assert Jobs(work).next_due(now=NOW + 5) == NOW + 5
    (again,) = claim(work, now=NOW + 5)
    assert again.key == job.key
    assert count(work, revivals) == 0


def test_a_job_that_waits_is_due_when_its_lease_has_run_out(serve: Engine, work: Engine) -> None:
    assert Jobs(work).next_due(now=NOW) is None
    take(serve, delivery())
    assert Jobs(work).next_due(now=NOW) == NOW
    claim(work)
    assert Jobs(work).next_due(now=NOW) == NOW + 10


def test_retry_and_replay_are_the_private_planes_to_do(serve: Engine, work: Engine) -> None:
    new = delivery()
    take(serve, new)
    (job,) = claim(work)
    Jobs(work).apply([died(job, reason="refused", message="no", at=NOW)])
    assert Records(work).retry(None, now=NOW) == 1
    assert new.push is not None
    (replayed,) = Records(work).replay("1", new.push, [Wanted("striv", "striv-")], now=NOW)
    assert replayed.generation == 2


def test_pruning_forgets_what_is_done_and_keeps_what_is_open(serve: Engine, work: Engine) -> None:
    take(serve, delivery("1"), delivery("2"), ignored())
    for job in claim(work, limit=1):
        start(work, job)
    end(work)
    forgotten = prune(work, Retention(keep_days=1, keep_count=100, replay_window_days=30), now=NOW + 2 * DAY)
    assert forgotten == 2
    assert [count(work, table) for table in (deliveries, jobs, pushes)] == [1, 1, 1]
    assert take(serve, delivery("1"))[0].result == DUPLICATE


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("kind", ["new branches", "many pushes to one"])
def test_branches_have_their_turns_as_on_sqlite(
    serve: Engine, work: Engine, tmp_path: Path, kind: str, most: int
) -> None:
    minutes = 12
    coming = starving(most=most, minutes=minutes) if kind == "new branches" else flooded(minutes=minutes)
    with opened(tmp_path) as sqlite:
        expected = play(sqlite, sqlite, coming, minutes=minutes, most=most)
    assert play(serve, work, coming, minutes=minutes, most=most) == expected


def test_a_dead_job_whose_run_may_exist_counts_as_active_for_a_while(serve: Engine, work: Engine) -> None:
    take(serve, delivery("1", now=NOW - DAY), delivery("2"))
    (job,) = claim(work, limit=1)
    Jobs(work).apply([died(job, reason="given-up", message="HTTP 503", at=NOW, in_doubt=True)])
    assert claim(work, max_active={"striv": 1}) == []
    assert len(claim(work, now=NOW + DAY, max_active={"striv": 1})) == 1


def test_words_that_no_database_takes_cost_no_change_and_no_other(serve: Engine, work: Engine) -> None:
    assert_words_are_stored(serve, work)


def test_what_the_database_refuses_for_a_conflict_can_be_told_from_an_outage(serve: Engine, work: Engine) -> None:
    take(serve, delivery())
    with pytest.raises(ConflictError), writing(serve) as connection:
        connection.execute(keys.insert(), rows(work, keys))


def test_a_batch_of_many_deliveries_costs_few_statements(serve: Engine) -> None:
    batch: list[NewDelivery] = [delivery(str(number)) for number in range(200)]
    with statements_of(serve) as seen:
        take(serve, *batch)
    assert len(seen) <= 12


PLANTED = {
    "trigger planted": "CREATE TRIGGER planted BEFORE UPDATE ON jobs FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "rule planted": "CREATE RULE planted AS ON INSERT TO deliveries DO ALSO NOTHING",
    "policy planted": "CREATE POLICY planted ON jobs USING (true)",
    "relation keys that is no table": "ALTER TABLE keys RENAME TO hidden; CREATE VIEW keys AS SELECT * FROM hidden",
}


@pytest.mark.parametrize(("named", "statement"), PLANTED.items(), ids=PLANTED.keys())
def test_an_object_that_the_owner_planted_stops_the_private_plane(
    database: Database, work: Engine, named: str, statement: str
) -> None:
    now = [0.0]
    guard(work, clock=lambda: now[0])
    assert claim(work) == []
    with database.engine(OWNER) as owner:
        run_sql(owner, statement)
    with pytest.raises(TamperedError, match=named):
        check_objects(work)
    now[0] += 5.0
    with pytest.raises(TamperedError, match=named):
        claim(work)
