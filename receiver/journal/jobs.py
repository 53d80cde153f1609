"""The private plane's side of the journal: claiming jobs under a lease and recording what became of them.

Every change names the state that it expects, and where a lease is held, the lease. A late worker's write changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    bindparam,
    case,
    func,
    select,
    update,
)

from receiver.journal.bulk import IN_LIST
from receiver.journal.changes import FREE, IN_DOUBT, Change, Job, StartedJob
from receiver.journal.engine import reading, writing
from receiver.journal.revive import is_asked, revive_asked
from receiver.journal.rows import transition_row
from receiver.journal.schema import (
    DEAD,
    FINISHED,
    STARTED,
    WAITING,
    WEBHOOK,
    deliveries,
    jobs,
    journal,
    pushes,
    transitions,
)
from receiver.journal.spelled import Spelled, listed, padded, places
from receiver.journal.turns import DUE, claimable
from receiver.journal.untrusted import LONGEST_PAYLOAD_BYTES, reading_rows, require_types, storable, unpacked

_STARTED_COLUMNS = (
    jobs.c.id,
    jobs.c.job_key,
    jobs.c.trigger,
    jobs.c.guid,
    jobs.c.repository,
    jobs.c.ref,
    jobs.c.head_sha,
    jobs.c.run_name,
    jobs.c.run_uid,
)


class Jobs:
    """The queue of jobs, over one engine. Raises TamperedError where a row cannot be the receiver's own."""

    def __init__(self, engine: Engine, *, longest_payload_bytes: int = LONGEST_PAYLOAD_BYTES) -> None:
        """`longest_payload_bytes` is how much of a payload is read at most; a longer one counts as damaged."""
        self._engine = engine
        self._longest_payload_bytes = longest_payload_bytes

    def next_due(self, *, now: float) -> float | None:
        """Return when the next claimable job is due (it may be past), None when nothing waits."""
        with reading(self._engine) as connection:
            asked = is_asked(connection)
            due = _NEXT_DUE[connection.dialect.name].execute(connection, {}).scalar()
        if asked:
            return now
        # A forged row can say that it is due at no time at all.
        return _time(due)

    def claim(
        self, *, now: float, limit: int, lease_seconds: float, max_active: Mapping[str, int] | None = None
    ) -> list[Job]:
        """Take up to `limit` due jobs under a fresh lease; dead ones that were redelivered live again first.

        `max_active` bounds the runs of a trigger that may exist at once. What is in doubt counts as existing and is tried
        first, so not even a killed worker's lost run lets one more start. Branches take turns within a bounded trigger.
        """
        with reading_rows(), writing(self._engine) as connection:
            values: dict[str, Any] = {"now": now, "longest": self._longest_payload_bytes}
            revive_asked(connection, now)
            if max_active:
                # Two workers that count at the same time would both see room. This row the public plane cannot lock.
                _ONE_AT_A_TIME.execute(connection, {})
                ids = padded(claimable(connection, now=now, limit=limit, max_active=max_active))
                rows = _chosen(len(ids)).execute(connection, {**values, **listed(jobs.c.id, ids)}).all() if ids else []
            else:
                values["most"] = limit
                rows = _OLDEST.execute(connection, values).all()
            claimed = [_job(row, self._longest_payload_bytes) for row in rows]
            if claimed:
                _hold(connection, [job.id for job in claimed], until=now + lease_seconds)
        return claimed

    def renew(self, held: Iterable[Job], *, until: float) -> None:
        """Prolong the leases that are still held."""
        with writing(self._engine) as connection:
            # In one order for all: workers that lock the same rows in different orders wait for each other.
            for job in sorted(held, key=lambda each: each.id):
                still = (jobs.c.id == job.id) & (jobs.c.lease == job.lease) & (jobs.c.state == WAITING)
                # A recorded step has given its lease back; renewing it late would only delay the next attempt.
                still &= jobs.c.lease_until > IN_DOUBT
                connection.execute(update(jobs).where(still).values(lease_until=until))

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Record changes in one transaction; False for each that came too late and changed nothing."""
        # In one order for all, as above; two changes of one job keep theirs.
        order = sorted(range(len(changes)), key=lambda index: changes[index].job.id)
        with writing(self._engine) as connection:
            done = {index: _apply(connection, changes[index]) for index in order}
        return [done[index] for index in range(len(changes))]

    def release(self, held: Iterable[Job]) -> None:
        """Give leases back, so that nobody has to wait for them to run out."""
        self.renew(held, until=IN_DOUBT)

    def summary(self) -> tuple[dict[str, int], float | None, float | None]:
        """Return the number of jobs by state, since when the oldest one waits, and when GitHub's last delivery came in."""
        counts = dict.fromkeys((WAITING, STARTED, FINISHED, DEAD), 0)
        with reading(self._engine) as connection:
            # A forged state is nobody's business here: each would become a series of its own.
            by_state = (
                select(jobs.c.state, func.count().label("jobs")).where(jobs.c.state.in_(counts)).group_by(jobs.c.state)
            )
            counts |= {row.state: row.jobs for row in connection.execute(by_state)}
            oldest = connection.execute(select(func.min(jobs.c.waiting_since)).where(jobs.c.state == WAITING)).scalar()
            came = select(func.max(deliveries.c.received_at)).where(deliveries.c.source == WEBHOOK)
            newest = connection.execute(came).scalar()
        return counts, _time(oldest), _time(newest)

    def failing_since(self, job: Job) -> float | None:
        """Return when a waiting job was put off for the first time since it waits, None when it never was."""
        if not job.has_failed:
            return None
        put_off = (transitions.c.from_state == WAITING) & (transitions.c.to_state == WAITING)
        query = select(func.max(transitions.c.at)).where(transitions.c.job_key == job.key, put_off)
        with reading(self._engine) as connection:
            return _time(connection.execute(query).scalar()) or job.waiting_since

    def started(self) -> list[StartedJob]:
        """Return all jobs whose runs have no outcome yet."""
        with reading_rows(), reading(self._engine) as connection:
            query = select(*_STARTED_COLUMNS).where(jobs.c.state == STARTED)
            return [_started_job(row) for row in connection.execute(query)]

    def contradicting(self, results: Mapping[bytes, str]) -> list[StartedJob]:
        """Return the finished jobs, by key, of which the journal says another result than this."""
        found: list[StartedJob] = []
        every = list(results)
        with reading_rows(), reading(self._engine) as connection:
            for start in range(0, len(every), IN_LIST):
                some = jobs.c.job_key.in_(every[start : start + IN_LIST])
                query = select(*_STARTED_COLUMNS, jobs.c.result).where(jobs.c.state == FINISHED, some)
                rows = connection.execute(query).all()
                found += [_started_job(row) for row in rows if row.result != results[bytes(row.job_key)]]
        return found


def _locked(*which: ColumnElement[bool]) -> Select[Any]:
    """The rows themselves, without those that another worker has in hand (PostgreSQL; SQLite has one writer)."""
    # What cannot be a payload for its mere length is not even fetched.
    short = func.length(pushes.c.body) <= bindparam("longest")
    return (
        select(jobs, case((short, pushes.c.body)).label("body"))
        .join(pushes, pushes.c.push_key == jobs.c.push_key, isouter=True)
        .where(DUE, *which)
        .order_by(jobs.c.due_at, jobs.c.id)
        .with_for_update(skip_locked=True, of=jobs)
    )


# A job is claimable when it is due and its lease, if any, has run out.
_NEXT_DUE = {
    database: Spelled(select(func.min(later(jobs.c.due_at, jobs.c.lease_until))).where(jobs.c.state == WAITING))
    for database, later in (("sqlite", func.max), ("postgresql", func.greatest))
}
_ONE_AT_A_TIME = Spelled(select(journal.c.version).with_for_update())
_OLDEST = Spelled(_locked().limit(bindparam("most")))


def _hold(connection: Connection, ids: list[int], *, until: float) -> None:
    every = padded(ids)
    _holding(len(every)).execute(connection, {**listed(jobs.c.id, every), "until": until})


@lru_cache(maxsize=16)
def _holding(size: int) -> Spelled:
    held = {"lease": jobs.c.lease + 1, "lease_until": bindparam("until")}
    return Spelled(update(jobs).where(jobs.c.id.in_(places(jobs.c.id, size))).values(held))


@lru_cache(maxsize=16)
def _chosen(size: int) -> Spelled:
    return Spelled(_locked(jobs.c.id.in_(places(jobs.c.id, size))))


def _job(row: Row[Any], longest_payload_bytes: int) -> Job:
    require_types(row)
    return Job(
        id=row.id,
        key=bytes(row.job_key),
        push_key=bytes(row.push_key),
        trigger=row.trigger,
        generation=row.generation,
        guid=row.guid,
        repository=row.repository,
        ref=row.ref,
        head_sha=row.head_sha,
        waiting_since=row.waiting_since,
        attempts=row.attempts,
        lease=row.lease + 1,
        salt=row.salt,
        payload=unpacked(row.body, limit_bytes=longest_payload_bytes),
        run_name=row.run_name,
        in_doubt=row.lease_until > FREE,
        has_failed=row.message is not None,
    )


def _time(value: Any) -> float | None:
    return value if isinstance(value, float | int) and math.isfinite(value) else None


def _started_job(row: Any) -> StartedJob:
    require_types(row)
    return StartedJob(
        id=row.id,
        key=bytes(row.job_key),
        trigger=row.trigger,
        guid=row.guid,
        repository=row.repository,
        ref=row.ref,
        head_sha=row.head_sha,
        run_name=row.run_name,
        run_uid=str(row.run_uid or ""),
    )


def _apply(connection: Connection, change: Change) -> bool:
    named = {"job_id": change.job.id, "expected": change.expected, "next": change.state}
    if change.lease is not None:
        named["held"] = change.lease
    named |= {f"new_{name}": storable(value) for name, value in change.values.items()}
    done = _step(tuple(change.values), change.lease is not None).execute(connection, named).rowcount == 1
    if done and (change.is_news or change.state != change.expected):
        row = transition_row(change.job.key, change.expected, change.state, storable(change.reason), change.at)
        _LOGGED.execute(connection, row)
    return done


_LOGGED = Spelled(
    transitions.insert()
    .inline()
    .values({column.name: bindparam(column.name) for column in transitions.c if not column.primary_key})
)


@lru_cache(maxsize=64)
def _step(columns: tuple[str, ...], under_lease: bool) -> Spelled:
    expected = (jobs.c.id == bindparam("job_id")) & (jobs.c.state == bindparam("expected"))
    if under_lease:
        expected &= jobs.c.lease == bindparam("held")
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    return Spelled(update(jobs).where(expected).values(state=bindparam("next"), **values))
