"""Whose turn it is: which waiting jobs may be claimed where `max_active` bounds the runs of some triggers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy import BindParameter, Connection, bindparam, case, func, select

from receiver.journal.changes import FREE
from receiver.journal.schema import DEAD, STARTED, WAITING, jobs
from receiver.journal.spelled import Spelled, listed, places

DEAD_IN_DOUBT_SECONDS = 3 * 3_600.0
"""How long the run that a dead job may have left behind counts as active.

Longer than a run of the example's template may last; for ever would let a run that nobody made block its trigger.
"""

NOW: BindParameter[float] = bindparam("now")
DUE = (jobs.c.state == WAITING) & (jobs.c.due_at <= NOW) & (jobs.c.lease_until <= NOW)


def claimable(connection: Connection, *, now: float, limit: int, max_active: Mapping[str, int]) -> list[int]:
    """Return the ids of up to `limit` jobs that may be taken now where these triggers are bounded."""
    bounded = listed(jobs.c.trigger, list(max_active))
    free = _unbounded(len(max_active)).execute(connection, {**bounded, "now": now, "most": limit})
    found = list(free.scalars())
    counted = _active(len(max_active)).execute(connection, {**bounded, "dead_since": now - DEAD_IN_DOUBT_SECONDS})
    active = {row.trigger: row.active for row in counted}
    for trigger, most in max_active.items():
        room = min(most - active.get(trigger, 0), limit - len(found))
        if room > 0:
            found += _IN_TURNS.execute(connection, {"now": now, "bounded": trigger, "room": room}).scalars()
    return found


@lru_cache(maxsize=4)
def _active(triggers: int) -> Spelled:
    """How many runs of each bounded trigger exist, or may exist."""
    exists = (
        (jobs.c.state == STARTED)
        | ((jobs.c.state == WAITING) & (jobs.c.lease_until > FREE))
        | ((jobs.c.state == DEAD) & (jobs.c.due_at > bindparam("dead_since")) & (jobs.c.lease_until > FREE))
    )
    return Spelled(
        select(jobs.c.trigger, func.count().label("active"))
        .where(exists, jobs.c.trigger.in_(places(jobs.c.trigger, triggers)))
        .group_by(jobs.c.trigger)
    )


@lru_cache(maxsize=4)
def _unbounded(triggers: int) -> Spelled:
    return Spelled(
        select(jobs.c.id)
        .where(DUE, jobs.c.trigger.not_in(places(jobs.c.trigger, triggers)) | (jobs.c.lease_until > FREE))
        .order_by(jobs.c.due_at, jobs.c.id)
        .limit(bindparam("most"))
    )


def _in_turns() -> Spelled:
    """The oldest job of each branch, then the second of each, and so on.

    Among equals, whoever has waited longest comes first: since its job is due, or since the last run of its branch ended if
    that was later. So a branch with many pushes goes behind all that wait when it gives its place back, and no stream of new
    branches can overtake one that waits already.
    """
    turn = func.row_number().over(partition_by=(jobs.c.repository_id, jobs.c.ref), order_by=(jobs.c.due_at, jobs.c.id))
    columns = (jobs.c.id, jobs.c.trigger, jobs.c.repository_id, jobs.c.ref, jobs.c.due_at)
    mine = (jobs.c.trigger == bindparam("bounded")) & (jobs.c.lease_until == FREE)
    ranked = select(*columns, turn.label("turn")).where(DUE, mine).subquery()
    due_at, other = ranked.c.due_at, jobs.alias()
    branch = [other.c[name] == ranked.c[name] for name in ("trigger", "repository_id", "ref")]
    # A clock that was set back has left times to come, which say nothing about who has waited.
    ended = other.c.finished_at
    served = case((ended.is_(None), NOW), (ended.between(due_at, NOW), ended), else_=due_at)
    last = select(served).where(*branch, other.c.started_at <= NOW).order_by(other.c.started_at.desc()).limit(1)
    # What is only in doubt is in nobody's hand: it must not keep its branch behind all others for days.
    in_hand = (
        select(func.count())
        .select_from(other)
        .where(*branch, other.c.started_at.is_(None), other.c.state == WAITING, other.c.lease_until > NOW)
    )
    waiting_since = func.coalesce(last.scalar_subquery(), due_at)
    order = (ranked.c.turn + in_hand.scalar_subquery(), waiting_since, due_at, ranked.c.id)
    room: BindParameter[int] = bindparam("room")
    return Spelled(select(ranked.c.id).where(ranked.c.turn <= room).order_by(*order).limit(room))


_IN_TURNS = _in_turns()
