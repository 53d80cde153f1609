"""Giving dead jobs another life: because GitHub delivered the push again, or because a person asks for it."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, update

from receiver.journal.bulk import IN_LIST
from receiver.journal.rows import transition_row
from receiver.journal.schema import DEAD, WAITING, jobs, revivals, transitions
from receiver.journal.spelled import Spelled
from receiver.journal.untrusted import digest

_MOST = 50_000
# By the index, which a flood that is over leaves short; to look for any row walks what it left behind.
_FIRST = Spelled(select(func.min(revivals.c.id)))
_TAKEN = (
    delete(revivals)
    # So many at a time: nobody may keep all others waiting by filling this table.
    .where(revivals.c.id.in_(select(revivals.c.id).order_by(revivals.c.id).limit(_MOST)))
    .returning(revivals.c.job_key)
)


def is_asked(connection: Connection) -> bool:
    """Tell whether anybody asked for another life of a dead job."""
    return _FIRST.execute(connection, {}).scalar() is not None


def revive_asked(connection: Connection, now: float) -> None:
    """Give the dead jobs that were redelivered another life; raises ValueError for what no redelivery asked."""
    if not is_asked(connection):
        return
    keys = list({digest(key) for key in connection.execute(_TAKEN).scalars()})
    dead: list[tuple[int, bytes]] = []
    for start in range(0, len(keys), IN_LIST):
        some = jobs.c.job_key.in_(keys[start : start + IN_LIST])
        # Only what is dead is taken one by one, for the reason above.
        found = connection.execute(select(jobs.c.id, jobs.c.job_key).where(some, jobs.c.state == DEAD))
        dead += [(row.id, row.job_key) for row in found]
    # In one order for all who lock several jobs.
    for _, key in sorted(dead):
        revive(connection, key, now=now, reason="redelivered")


def revive(connection: Connection, key: bytes, *, now: float, reason: str) -> bool:
    """Give a dead job another life; False when it is not dead."""
    fresh = {
        "state": WAITING,
        "due_at": now,
        "waiting_since": now,
        "attempts": 0,
        "reason": None,
        "message": None,
        "finished_at": None,
    }
    dead = (jobs.c.job_key == key) & (jobs.c.state == DEAD)
    done = connection.execute(update(jobs).where(dead).values(fresh)).rowcount == 1
    if done:
        connection.execute(transitions.insert().values(transition_row(key, DEAD, WAITING, reason, now)))
    return done
