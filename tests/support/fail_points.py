"""`python -m tests.support.fail_points POINT COUNT PLANE` is `receiver PLANE`, but dies at the COUNTth passage of a point.

It dies by os._exit: no exit handler, no flush, no goodbye, as after SIGKILL, only that the moment is chosen. The code of the
receiver knows nothing of it: the points are wrapped around its methods from outside.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.cli.main import receiver
from receiver.clients.cluster import Cluster
from receiver.journal.changes import Change
from receiver.journal.intake import Intake, NewDelivery, _Plan
from receiver.journal.jobs import Jobs
from receiver.journal.schema import DEAD, FINISHED, STARTED, WAITING
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


def _is_not_empty(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


@dataclass(frozen=True)
class Point:
    """Before or after a method, where a condition on its arguments (and, after it, its result) holds."""

    owner: type
    method: str
    after: bool = False
    condition: Condition = _always


SERVE = {
    "before the transaction": Point(Intake, "take", condition=_brings_work),
    "inserted, before the commit": Point(_Plan, "insert", after=True),
    "committed, before the answer": Point(Intake, "take", after=True, condition=_brings_work),
}
WORK = {
    "claimed": Point(Jobs, "claim", after=True, condition=_is_not_empty),
    "before the creation": Point(Cluster, "create_run"),
    "created, before the record": Point(Cluster, "create_run", after=True),
    "before the start is recorded": Point(Jobs, "apply", condition=_records(STARTED)),
    "start recorded": Point(Jobs, "apply", after=True, condition=_records(STARTED)),
    "before the outcome is recorded": Point(Jobs, "apply", condition=_records(FINISHED)),
    "outcome recorded": Point(Jobs, "apply", after=True, condition=_records(FINISHED)),
}
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
    "before the creations end": Point(Dispatcher, "close"),
    "before the leases are given back": Point(Jobs, "release"),
    "leases given back": Point(Jobs, "release", after=True),
}
"""Passed after SIGTERM; the leases only with jobs in hand."""
POINTS = SERVE | WORK | REFUSED | POSTPONED | STOPPING


def arm(point: Point, count: int) -> None:
    """Make the process die at the `count`th passage of `point`."""
    original = getattr(point.owner, point.method)
    passages = itertools.count(1)

    def pass_by(arguments: tuple[Any, ...], result: Any) -> None:
        if point.condition(arguments, result) and next(passages) == count:
            os._exit(EXIT_CODE)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not point.after:
            pass_by(arguments, None)
        result = original(*arguments, **named)
        if point.after:
            pass_by(arguments, result)
        return result

    setattr(point.owner, point.method, wrapped)


def through(name: str, *, count: int = 1) -> tuple[str, ...]:
    """Return what Planes.launch has to go through for a plane to die at a point."""
    return (__name__, name, str(count))


if __name__ == "__main__":
    arm(POINTS[sys.argv[1]], int(sys.argv[2]))
    receiver(sys.argv[3:])
