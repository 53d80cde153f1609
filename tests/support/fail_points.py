"""`python -m tests.support.fail_points POINT COUNT PLANE` is `receiver PLANE`, but dies at the COUNTth passage of a point.

It dies by os._exit: no exit handler, no flush, no goodbye, as after SIGKILL, only that the moment is chosen. The code of the
receiver knows nothing of it: the points are wrapped around its methods from outside.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from receiver.cli.main import receiver
from receiver.clients.cluster import Cluster
from receiver.journal import jobs as jobs_module
from receiver.journal import prune as prune_module
from receiver.journal import revive as revive_module
from receiver.journal.changes import IN_DOUBT, Change
from receiver.journal.intake import Intake, NewDelivery, _Plan
from receiver.journal.jobs import Jobs
from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING, jobs
from receiver.serve.observe import Observer
from receiver.work.dispatch import Dispatcher

EXIT_CODE = 86
Condition = Callable[[tuple[Any, ...], Any], bool]


def _always(_arguments: tuple[Any, ...], _result: Any) -> bool:
    return True


def _brings_work(arguments: tuple[Any, ...], _result: Any) -> bool:
    batch: Sequence[NewDelivery] = arguments[1]
    return any(delivery.wanted for delivery in batch)


def _records(state: str) -> Condition:
    def condition(arguments: tuple[Any, ...], _result: Any) -> bool:
        changes: Sequence[Change] = arguments[1]
        return any(change.state == state for change in changes)

    return condition


def _salts(arguments: tuple[Any, ...], _result: Any) -> bool:
    changes: Sequence[Change] = arguments[1]
    return any("salt" in change.values for change in changes)


def _corrects(arguments: tuple[Any, ...], _result: Any) -> bool:
    changes: Sequence[Change] = arguments[1]
    return any(change.expected == FINISHED for change in changes)


def _holds(arguments: tuple[Any, ...], _result: Any) -> bool:
    return bool(list(arguments[1]))


def _has_claimed(_arguments: tuple[Any, ...], connection: Any) -> bool:
    leased = (jobs.c.state == WAITING) & (jobs.c.lease_until > IN_DOUBT)
    return connection.execute(select(jobs.c.id).where(leased)).first() is not None


def _is_not_empty(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


@dataclass(frozen=True)
class Point:
    """Before or after a method or function, where a condition on its arguments (and, after it, its result) holds.

    `inside` is a method, too: then only what it calls counts, in its thread, and the condition is on its arguments.
    """

    owner: Any
    method: str
    after: bool = False
    condition: Condition = _always
    inside: tuple[type, str] | None = None


def _last_of(method: str, condition: Condition = _always) -> Point:
    """After the last statement of a method of Jobs, before its commit."""
    return Point(jobs_module, "writing", after=True, condition=condition, inside=(Jobs, method))


SERVE = {
    "before the transaction": Point(Intake, "take", condition=_brings_work),
    "inserted, before the commit": Point(_Plan, "insert", after=True),
    "committed, before the answer": Point(Intake, "take", after=True, condition=_brings_work),
    "committed and answered": Point(Observer, "answered"),
}
WORK = {
    "claiming, before the commit": _last_of("claim", _has_claimed),
    "claimed": Point(Jobs, "claim", after=True, condition=_is_not_empty),
    "before the creation": Point(Cluster, "create_run"),
    "created, before the record": Point(Cluster, "create_run", after=True),
    "before the start is recorded": Point(Jobs, "apply", condition=_records(STARTED)),
    "recording a start, before the commit": _last_of("apply", _records(STARTED)),
    "start recorded": Point(Jobs, "apply", after=True, condition=_records(STARTED)),
    "before the outcome is recorded": Point(Jobs, "apply", condition=_records(FINISHED)),
    "recording an outcome, before the commit": _last_of("apply", _records(FINISHED)),
    "outcome recorded": Point(Jobs, "apply", after=True, condition=_records(FINISHED)),
}
FOUND = {
    "before the run of the name is looked at": Point(Cluster, "get_run"),
    "looked at, before the record": Point(Cluster, "get_run", after=True),
}
"""Passed by the worker after one that died between creation and record."""
REVIVED = {
    "revived, before the commit": Point(revive_module, "revive", after=True),
    "revived and claimed, before the commit": _last_of("claim", _has_claimed),
    "revived and claimed": Point(Jobs, "claim", after=True, condition=_is_not_empty),
}
"""Passed when something dead was redelivered."""
SALTED = {
    "before the salt is recorded": Point(Jobs, "apply", condition=_salts),
    "recording a salt, before the commit": _last_of("apply", _salts),
    "salt recorded": Point(Jobs, "apply", after=True, condition=_salts),
}
"""Passed when foreign objects have the names."""
RENEWED = {
    "before the leases are renewed": Point(Jobs, "renew", condition=_holds),
    "renewing, before the commit": _last_of("renew", _holds),
    "leases renewed": Point(Jobs, "renew", after=True, condition=_holds),
}
"""Passed when creations take longer than a third of the lease."""
CORRECTED = {
    "before an outcome is set right": Point(Jobs, "apply", condition=_corrects),
    "setting an outcome right, before the commit": _last_of("apply", _corrects),
    "outcome set right": Point(Jobs, "apply", after=True, condition=_corrects),
}
"""Passed when the journal says of an ended run what is not true."""
REFUSED = {
    "before the death is recorded": Point(Jobs, "apply", condition=_records(DEAD)),
    "death recorded": Point(Jobs, "apply", after=True, condition=_records(DEAD)),
}
"""Passed when the cluster refuses a run."""
POSTPONED = {
    "before the postponement is recorded": Point(Jobs, "apply", condition=_records(WAITING)),
    "postponement recorded": Point(Jobs, "apply", after=True, condition=_records(WAITING)),
}
"""Passed when the cluster asks for patience."""
STOPPING = {
    "before the creations end": Point(Dispatcher, "finish"),
    "before the leases are given back": Point(Jobs, "release"),
    "leases given back": Point(Jobs, "release", after=True),
}
"""Passed after SIGTERM; the leases only with jobs in hand."""
PRUNED = {
    "deliveries forgotten, before the commit": Point(prune_module, "writing", after=True),
    "deliveries forgotten": Point(prune_module, "_jobs_to_forget"),
    "jobs forgotten, before the commit": Point(prune_module, "_forget_jobs", after=True),
    "jobs forgotten": Point(prune_module, "_long_logs"),
    "keys looked through, before the commit": Point(prune_module, "_forget_keys", after=True),
}
"""Passed when there is more in the journal than is to be kept."""
POINTS = SERVE | WORK | FOUND | REVIVED | SALTED | RENEWED | CORRECTED | REFUSED | POSTPONED | STOPPING | PRUNED


def arm(point: Point, count: int) -> None:
    """Make the process die at the `count`th passage of `point`."""
    original = getattr(point.owner, point.method)
    passages = itertools.count(1)
    surrounding = threading.local()

    def pass_by(arguments: tuple[Any, ...], result: Any) -> None:
        if point.inside is not None:
            arguments = getattr(surrounding, "arguments", ())
        if (arguments or not point.inside) and point.condition(arguments, result) and next(passages) == count:
            os._exit(EXIT_CODE)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not point.after:
            pass_by(arguments, None)
        result = original(*arguments, **named)
        if point.after:
            pass_by(arguments, result)
        return result

    @contextmanager
    def around(*arguments: Any) -> Iterator[Any]:
        with original(*arguments) as connection:
            yield connection
            pass_by(arguments, connection)

    setattr(point.owner, point.method, around if point.method == "writing" else wrapped)
    if point.inside is not None:
        _tell(*point.inside, surrounding)


def _tell(owner: type, method: str, surrounding: threading.local) -> None:
    """Keep the arguments of a method for as long as it lasts."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def telling(*arguments: Any, **named: Any) -> Any:
        surrounding.arguments = arguments
        try:
            return original(*arguments, **named)
        finally:
            surrounding.arguments = ()

    setattr(owner, method, telling)


def through(name: str, *, count: int = 1) -> tuple[str, ...]:
    """Return what Planes.launch has to go through for a plane to die at a point."""
    return (__name__, name, str(count))


if __name__ == "__main__":
    arm(POINTS[sys.argv[1]], int(sys.argv[2]))
    receiver(sys.argv[3:])
