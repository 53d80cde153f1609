"""Keeping the journal small: what is done and old goes, in short transactions; what is open or dead stays.

The keys stay for the whole replay window, so that an old body starts nothing long after its job is forgotten. Of a push that
is open only what tells its story stays: the delivery that was accepted and the newest, however often the others came in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select

from receiver.errors import ConflictError
from receiver.journal.engine import reading, writing
from receiver.journal.intake import ACCEPTED
from receiver.journal.schema import FINISHED, deliveries, jobs, keys, pushes, transitions
from receiver.journal.untrusted import keys_among

_BATCH = 500
_LOOK = 20_000
_PAGES = 2_000
_LONGEST_LOG = 200
_DAY_SECONDS = 86_400.0
_KEYS = select(pushes.c.push_key)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished and ignored deliveries are kept, how many at most, and how long keys are."""

    keep_days: float
    keep_count: int
    replay_window_days: float


def prune(engine: Engine, retention: Retention, *, now: float) -> int:
    """Delete what is too old or too much and return how many deliveries went; raises JournalError.

    What another transaction keeps is left to the next time, and keeps nothing else: its ConflictError is raised in the end.
    """
    apart = _Apart(engine)
    removed = _prune_deliveries(apart, retention, now)
    for found in _parts(_jobs_to_forget(engine)):
        apart(partial(_forget_jobs, job_keys=found))
    for job_key in _long_logs(engine):
        apart(partial(_shorten_log, job_key=job_key))
    while apart(partial(_forget_keys, retention=retention, now=now)) == _BATCH:
        pass
    if engine.dialect.name == "sqlite":
        apart(_give_pages_back)
    if apart.conflict is not None:
        raise apart.conflict
    return removed


class _Apart:
    """Makes changes in a transaction each; one that another transaction is in the way of is not made, and noted."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.conflict: ConflictError | None = None

    def __call__(self, change: Callable[[Connection], int]) -> int:
        """Return what the change says, how much went; 0 when it was not made."""
        try:
            with writing(self.engine) as connection:
                return change(connection)
        except ConflictError as error:
            self.conflict = error
            return 0


def _prune_deliveries(apart: _Apart, retention: Retention, now: float) -> int:
    removed = 0
    # Whatever takes long to find is looked for without the lock that deliveries need, and looked at again under it.
    while ids := _deliveries_to_forget(apart.engine, retention, now):
        gone = sum(apart(partial(_forget_deliveries, ids=some)) for some in _parts(ids))
        removed += gone
        if gone == 0:
            break
    return removed


def _forget_deliveries(connection: Connection, *, ids: list[int]) -> int:
    return connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids) & _may_go())).rowcount


def _give_pages_back(connection: Connection) -> int:
    # A page is given back with each step of the statement, so it has to be fetched to its end.
    return len(connection.connection.cursor().execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall())


def _parts(found: list[Any]) -> Iterator[list[Any]]:
    return (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))


def _may_go() -> ColumnElement[bool]:
    """Whether nobody needs a delivery to understand what is open."""
    later = deliveries.alias()
    is_open = select(jobs.c.id).where(jobs.c.push_key == deliveries.c.push_key, jobs.c.state != FINISHED).exists()
    came_again = (
        select(later.c.id).where(later.c.push_key == deliveries.c.push_key, later.c.id > deliveries.c.id).exists()
    )
    return deliveries.c.push_key.is_(None) | ~is_open | ((deliveries.c.result != ACCEPTED) & came_again)


def _deliveries_to_forget(engine: Engine, retention: Retention, now: float) -> list[int]:
    with reading(engine) as connection:
        old = select(deliveries.c.id).where(
            deliveries.c.received_at < now - retention.keep_days * _DAY_SECONDS, _may_go()
        )
        ids = list(connection.execute(old.order_by(deliveries.c.received_at).limit(_LOOK)).scalars())
        total = connection.execute(select(func.count()).select_from(deliveries)).scalar() or 0
        surplus = min(_LOOK, total - retention.keep_count) - len(ids)
        # A flood of what was ignored or came twice must not drive out what ran.
        for kind in (deliveries.c.result != ACCEPTED, deliveries.c.result == ACCEPTED):
            if surplus > 0:
                more = select(deliveries.c.id).where(kind, _may_go()).order_by(deliveries.c.id)
                known = set(ids)
                found = connection.execute(more.limit(surplus + len(ids))).scalars()
                ids += [each for each in found if each not in known][:surplus]
                surplus = min(_LOOK, total - retention.keep_count) - len(ids)
    return ids


def _unspoken() -> ColumnElement[bool]:
    """Whether a job is finished and no delivery speaks of it any more."""
    known = select(deliveries.c.id).where(deliveries.c.push_key == jobs.c.push_key).exists()
    return (jobs.c.state == FINISHED) & ~known


def _jobs_to_forget(engine: Engine) -> list[bytes]:
    with reading(engine) as connection:
        return keys_among(connection.execute(select(jobs.c.job_key).where(_unspoken())).scalars())


def _forget_jobs(connection: Connection, *, job_keys: list[bytes]) -> int:
    """Delete finished jobs with log and payload."""
    theirs = pushes.c.push_key.in_(select(jobs.c.push_key).where(jobs.c.job_key.in_(job_keys)))
    # Whoever inserts a job locks its push until the end of the transaction, and the public plane's role may leave one open.
    free = set(connection.execute(_KEYS.where(theirs).with_for_update(skip_locked=True)).scalars())
    kept = set(keys_among(connection.execute(_KEYS.where(theirs)).scalars())) - free
    which = jobs.c.job_key.in_(job_keys) & jobs.c.push_key.not_in(kept) & _unspoken()
    forgotten = delete(jobs).where(which).returning(jobs.c.job_key, jobs.c.push_key)
    rows = connection.execute(forgotten).all()
    connection.execute(delete(transitions).where(transitions.c.job_key.in_(keys_among(row.job_key for row in rows))))
    push_keys = set(keys_among(row.push_key for row in rows))
    left = set(connection.execute(select(jobs.c.push_key).where(jobs.c.push_key.in_(push_keys))).scalars())
    connection.execute(delete(pushes).where(pushes.c.push_key.in_(push_keys - left)))
    return len(rows)


def _long_logs(engine: Engine) -> list[bytes]:
    counted = select(transitions.c.job_key).group_by(transitions.c.job_key).having(func.count() > _LONGEST_LOG)
    with reading(engine) as connection:
        return keys_among(connection.execute(counted).scalars())


def _shorten_log(connection: Connection, *, job_key: bytes) -> int:
    """Keep the begin and the end of a job's log: whoever redelivers something dead again and again makes it grow."""
    own = transitions.c.job_key == job_key
    born = own & (transitions.c.from_state == "")
    first_birth = select(func.min(transitions.c.id)).where(born).scalar_subquery()
    # A job begins once. More beginnings the public plane alone could plant, so that the rest would have to give way.
    connection.execute(delete(transitions).where(born, transitions.c.id > first_birth))
    newest = select(transitions.c.id).where(own).order_by(transitions.c.id.desc())
    last = newest.offset(_LONGEST_LOG - 1).limit(1).scalar_subquery()
    first = select(func.min(transitions.c.id)).where(own).scalar_subquery()
    return connection.execute(
        delete(transitions).where(own, transitions.c.id > first, transitions.c.id <= last)
    ).rowcount


def _forget_keys(connection: Connection, *, retention: Retention, now: float) -> int:
    # A job that is still open keeps its keys, however old: its push must not come in again beside it.
    in_use = select(jobs.c.push_key).where(jobs.c.push_key == keys.c.push_key).exists()
    query = select(keys.c.key).where(keys.c.keep_from < now - retention.replay_window_days * _DAY_SECONDS, ~in_use)
    found = list(connection.execute(query.limit(_BATCH)).scalars())
    connection.execute(delete(keys).where(keys.c.key.in_(found)))
    return len(found)
