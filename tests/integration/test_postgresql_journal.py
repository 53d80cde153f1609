"""The journal on PostgreSQL, each plane as its own role: what SQLite's one writer made easy has to hold here too."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL

from receiver.core.identity import job_key
from receiver.errors import ConflictError, JournalError, PermanentError, SettingsError, TamperedError
from receiver.journal.changes import Change, Job, died, finished, postponed, started
from receiver.journal.copying import copy_journal
from receiver.journal.engine import open_engine, reading, writing
from receiver.journal.guard import check_objects, guard
from receiver.journal.intake import ACCEPTED, DUPLICATE, Intake, NewDelivery, Receipt, Wanted
from receiver.journal.jobs import Jobs
from receiver.journal.migrate import check_version, migrate
from receiver.journal.prune import Retention, prune
from receiver.journal.queries import Records
from receiver.journal.schema import deliveries, jobs, journal, keys, metadata, pushes, revivals, transitions
from tests.support.folders import write_folder
from tests.support.journals import NOW, count, delivery, ignored, opened, rows, run_sql, statements_of, take
from tests.support.postgres import OWNER, SERVE, WORK, Database, PostgreSQL
from tests.support.turns import flooded, play, starving
from tests.unit.journal.test_jobs import assert_words_are_stored

TABLES = (deliveries, pushes, keys, jobs, transitions, revivals)
DAY = 86_400.0


@pytest.fixture
def serve(database: Database) -> Iterator[Engine]:
    with database.engine(SERVE) as engine:
        yield engine


@pytest.fixture
def work(database: Database) -> Iterator[Engine]:
    with database.engine(WORK) as engine:
        yield engine


def claim(engine: Engine, *, now: float = NOW, limit: int = 10, **more: Any) -> list[Job]:
    return Jobs(engine).claim(now=now, limit=limit, lease_seconds=10, **more)


def start(engine: Engine, job: Job, uid: str = "uid") -> None:
    assert Jobs(engine).apply([started(job, run_name="striv-x", run_uid=uid, at=NOW)]) == [True]


def end(engine: Engine) -> None:
    queue = Jobs(engine)
    change = [
        finished(job, result="succeeded", reason="", message="", failed_task=None, at=NOW) for job in queue.started()
    ]
    assert all(queue.apply(list(change)))


# ---------------------------------------------------------------- one after the other


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


def test_two_workers_that_prune_at_the_same_time_count_each_delivery_once(serve: Engine, database: Database) -> None:
    take(serve, *(ignored() for _ in range(1_200)))
    retention = Retention(keep_days=1, keep_count=10_000, replay_window_days=30)
    with database.engine(WORK) as one, database.engine(WORK) as two, ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda engine: prune(engine, retention, now=NOW + 2 * DAY), (one, two)))
        assert sum(counts) == 1_200
        assert count(one, deliveries) == 0


# ---------------------------------------------------------------- the database's own promises


def test_a_commit_waits_for_the_disk_in_the_public_plane_and_need_not_in_the_private_one(database: Database) -> None:
    for durable, expected in ((True, "on"), (False, "off")):
        with database.engine(SERVE, durable=durable) as engine, reading(engine) as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == expected
            assert connection.execute(text("SHOW fsync")).scalar() == "on"


@pytest.mark.parametrize(
    ("statement", "named"),
    [("SELECT pg_sleep(30)", "QueryCanceled"), ("SELECT pg_advisory_lock(1)", "LockNotAvailable")],
)
def test_no_statement_waits_for_long(database: Database, statement: str, named: str) -> None:
    with database.connection(SERVE) as other, database.engine(WORK) as engine:
        other.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(JournalError, match=named), writing(engine) as connection:
            connection.execute(text(statement))


def test_a_connection_that_is_left_in_a_transaction_is_ended_by_the_server(database: Database) -> None:
    with database.engine(SERVE) as engine, reading(engine) as connection:
        limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    assert limit == "10s"


def test_connections_that_the_server_ended_are_replaced_without_an_error(
    postgresql: PostgreSQL, database: Database, serve: Engine
) -> None:
    take(serve, delivery("1"))
    with postgresql.admin() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name])
    assert take(serve, delivery("2"))[0].result == ACCEPTED


def test_a_database_that_is_not_there_is_a_journal_error_and_not_a_traceback(postgresql: PostgreSQL) -> None:
    url = postgresql.receiver().url(SERVE).set(database="nowhere")
    engine = open_engine(url)
    with pytest.raises(JournalError, match='database "nowhere" does not exist'):
        check_version(engine)
    engine.dispose()


# ---------------------------------------------------------------- several at once


def _migrate(url: str, results: Queue[bool | str], begin: Any) -> None:
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - runs in a process of its own

    engine = open_engine(make_url(url))
    begin.wait()
    try:
        results.put(migrate(engine, now=NOW))
    except Exception as error:  # noqa: BLE001 - the test shows it
        results.put(repr(error))
    engine.dispose()


def test_of_several_processes_that_migrate_at_the_same_time_one_does(postgresql: PostgreSQL) -> None:
    context = multiprocessing.get_context("spawn")
    with postgresql.database(migrated=False) as fresh:
        results: Queue[bool | str] = context.Queue()
        begin = context.Barrier(4, timeout=60)
        each = [
            context.Process(target=_migrate, args=(fresh.url_text(OWNER), results, begin), daemon=True)
            for _ in range(4)
        ]
        for process in each:
            process.start()
        done = [results.get(timeout=60) for _ in each]
        for process in each:
            process.join(10)
        assert sorted(map(str, done)) == ["False", "False", "False", "True"]
        with fresh.engine(OWNER) as engine:
            check_version(engine)
            assert count(engine, journal) == 1


def test_a_database_without_tables_or_of_another_version_is_refused(postgresql: PostgreSQL) -> None:
    with postgresql.database(migrated=False) as fresh, fresh.engine(OWNER) as engine:
        with pytest.raises(SettingsError, match="receiver journal migrate"):
            check_version(engine)
        migrate(engine, now=NOW)
        run_sql(engine, "UPDATE journal SET version = 99")
        with pytest.raises(SettingsError, match="version 99"):
            check_version(engine)


def between_look_and_insert(engine: Engine, action: Callable[[], object]) -> None:
    """Let another replica act once while this engine's next batch is between its look and its first insert."""
    left = [action]

    @event.listens_for(engine, "before_cursor_execute")
    def _before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO deliveries") and left:
            left.pop()()


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


def test_what_the_database_refuses_for_a_conflict_can_be_told_from_an_outage(serve: Engine, work: Engine) -> None:
    take(serve, delivery())
    with pytest.raises(ConflictError), writing(serve) as connection:
        connection.execute(keys.insert(), rows(work, keys))


# ---------------------------------------------------------------- planted objects

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


# ---------------------------------------------------------------- moving house


def filled(engine: Engine) -> None:
    """Some of everything that a journal can hold."""
    take(engine, delivery("1"), delivery("2"), delivery("3", pushed_at=None), ignored())
    first, second, _ = claim(engine)
    start(engine, first)
    Jobs(engine).apply([died(second, reason="refused", message="no", at=NOW)])
    take(engine, delivery("2"))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_refused_with_what_to_do(
    postgresql: PostgreSQL, tmp_path: Path, encoding: str
) -> None:
    said = rf"database test_\d+ has the encoding {encoding}, .*CREATE DATABASE .* TEMPLATE template0 ENCODING 'UTF8'"
    with postgresql.database(migrated=False, encoding=encoding) as fresh, fresh.engine(OWNER) as engine:
        for step in (check_version, lambda engine: migrate(engine, now=NOW)):
            for _ in range(2):
                with pytest.raises(SettingsError, match=said):
                    step(engine)
        file = write_folder(tmp_path, journal={"url": fresh.url_text(OWNER)})
        command = [sys.executable, "-m", "receiver", "--config", str(file), "journal", "migrate"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf"receiver: the journal's .*{encoding}.*\n", done.stderr)
    assert postgresql.password not in done.stderr


def test_an_encoding_that_the_environment_asks_for_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with database.engine(OWNER) as engine:
        take(engine, delivery(branch="größe-尺寸"))
        assert [row["ref"] for row in rows(engine, deliveries)] == ["refs/heads/größe-尺寸"]


@pytest.mark.parametrize("direction", ["to PostgreSQL", "to SQLite"])
def test_a_journal_is_carried_over_whole_and_goes_on_there(
    postgresql: PostgreSQL, tmp_path: Path, direction: str
) -> None:
    with (
        postgresql.database(migrated=False) as fresh,
        fresh.engine(OWNER) as there,
        opened(tmp_path, migrated=False) as here,
    ):
        source, target = (here, there) if direction == "to PostgreSQL" else (there, here)
        migrate(source, now=NOW)
        filled(source)
        seen: list[tuple[str, int]] = []
        copied = copy_journal(source, target, now=NOW, progress=lambda *each: seen.append(each))
        assert dict(seen) == {table.name: count(source, table) for table in TABLES}
        assert copied == sum(number for _, number in seen)
        for table in TABLES:
            assert rows(target, table) == rows(source, table)
        assert [receipt.result for receipt in take(target, delivery("1"), delivery("4"))] == [DUPLICATE, ACCEPTED]
        assert len(claim(target, now=NOW + 60)) == 3
        with pytest.raises(PermanentError, match="holds deliveries already"):
            copy_journal(source, target, now=NOW, progress=lambda *_: None)


def test_a_journal_whose_parts_do_not_fit_together_is_not_carried_over(postgresql: PostgreSQL, tmp_path: Path) -> None:
    with (
        postgresql.database(migrated=False) as fresh,
        fresh.engine(OWNER) as there,
        opened(tmp_path) as here,
    ):
        take(here, delivery())
        run_sql(here, "DELETE FROM pushes")
        with pytest.raises(PermanentError, match="does not fit together"):
            copy_journal(here, there, now=NOW, progress=lambda *_: None)
        assert count(there, deliveries) == 0


def test_the_columns_are_of_the_types_that_the_schema_names(work: Engine) -> None:
    query = text(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    )
    with reading(work) as connection:
        found = {(table, column): kind for table, column, kind in connection.execute(query)}
        answer = connection.execute(text("SHOW server_encoding")).scalar()
    assert answer == "UTF8"
    assert {found[table, column] for table, column in found if column.endswith("key")} == {"bytea"}
    assert {found[table, column] for table, column in found if column.endswith("_at")} == {"double precision"}
    assert found["pushes", "body"] == "bytea"
    assert found["jobs", "repository_id"] == "bigint"
    assert {table for table, _ in found} == set(metadata.tables)


def test_the_urls_of_several_hosts_name_the_one_that_takes_writes(postgresql: PostgreSQL, database: Database) -> None:
    """As after a failover: the first host refuses connections, the second takes writes."""
    url = URL.create(
        "postgresql+psycopg",
        username=SERVE,
        password=postgresql.password,
        database=database.name,
        query={"host": ("127.0.0.1:1", f"127.0.0.1:{postgresql.port}"), "target_session_attrs": "read-write"},
    )
    engine = open_engine(url)
    assert take(engine, delivery())[0].result == ACCEPTED
    engine.dispose()


def test_a_batch_of_many_deliveries_costs_few_statements(serve: Engine) -> None:
    batch: list[NewDelivery] = [delivery(str(number)) for number in range(200)]
    with statements_of(serve) as seen:
        take(serve, *batch)
    assert len(seen) <= 12
