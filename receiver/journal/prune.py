"""Keeping the journal small: what is done and old goes, in short transactions; what is open or dead stays.

The keys stay for the whole replay window, so that an old body starts nothing long after its job is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Select, delete, func, select

from receiver.journal.engine import writing
from receiver.journal.intake import ACCEPTED
from receiver.journal.schema import FINISHED, deliveries, jobs, keys, pushes, transitions

_BATCH = 500
_PAGES = 2_000
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished and ignored deliveries are kept, how many at most, and how long keys are."""

    keep_days: float
    keep_count: int
    replay_window_days: float


def prune(engine: Engine, retention: Retention, *, now: float) -> int:
    """Delete what is too old or too much and return how many deliveries went; raises JournalError."""
    removed = 0
    while True:
        with writing(engine) as connection:
            ids = _deliveries_to_forget(connection, retention, now)
            gone = connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids))).rowcount
            forgotten = _forget_jobs(connection) + _forget_keys(connection, retention, now)
        removed += gone
        if len(ids) < _BATCH and forgotten == 0:
            break
    if engine.dialect.name == "sqlite":
        with writing(engine) as connection:
            # A page is given back with each step of the statement, so it has to be fetched to its end.
            connection.connection.cursor().execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    return removed


def _deliveries_to_forget(connection: Connection, retention: Retention, now: float) -> list[int]:
    open_pushes = select(jobs.c.push_key).where(jobs.c.state != FINISHED)
    done = deliveries.c.push_key.is_(None) | deliveries.c.push_key.not_in(open_pushes)
    old = select(deliveries.c.id).where(done, deliveries.c.received_at < now - retention.keep_days * _DAY_SECONDS)
    ids = list(connection.execute(old.order_by(deliveries.c.id).limit(_BATCH)).scalars())
    total = connection.execute(select(func.count()).select_from(deliveries)).scalar() or 0
    surplus = min(_BATCH, total - retention.keep_count) - len(ids)
    if surplus > 0:
        more = select(deliveries.c.id).where(done, deliveries.c.id.not_in(ids))
        # A flood of what was ignored or came twice must not drive out what ran.
        more = more.order_by(deliveries.c.result == ACCEPTED, deliveries.c.id).limit(surplus)
        ids += connection.execute(more).scalars()
    return ids


def _forget_jobs(connection: Connection) -> int:
    """Delete the finished jobs, with log and payload, that no delivery speaks of any more."""
    known = select(deliveries.c.push_key).where(deliveries.c.push_key == jobs.c.push_key).exists()
    query: Select[tuple[bytes, bytes]] = select(jobs.c.job_key, jobs.c.push_key).where(jobs.c.state == FINISHED, ~known)
    rows = connection.execute(query.limit(_BATCH)).all()
    job_keys = [row.job_key for row in rows]
    connection.execute(delete(transitions).where(transitions.c.job_key.in_(job_keys)))
    connection.execute(delete(jobs).where(jobs.c.job_key.in_(job_keys)))
    push_keys = {bytes(row.push_key) for row in rows}
    left = set(connection.execute(select(jobs.c.push_key).where(jobs.c.push_key.in_(push_keys))).scalars())
    connection.execute(delete(pushes).where(pushes.c.push_key.in_(push_keys - {bytes(key) for key in left})))
    return len(rows)


def _forget_keys(connection: Connection, retention: Retention, now: float) -> int:
    # A job that is still open keeps its keys, however old: its push must not come in again beside it.
    in_use = select(jobs.c.push_key).where(jobs.c.push_key == keys.c.push_key).exists()
    query = select(keys.c.key).where(keys.c.keep_from < now - retention.replay_window_days * _DAY_SECONDS, ~in_use)
    found = list(connection.execute(query.limit(_BATCH)).scalars())
    connection.execute(delete(keys).where(keys.c.key.in_(found)))
    return len(found)
