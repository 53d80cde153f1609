"""A bounded trigger over minutes: pushes come, runs take a minute each, and one sees which branch had which turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine

from receiver.journal.changes import finished, started
from receiver.journal.jobs import Jobs
from tests.support.journals import NOW, TRIGGER, delivery, take

MINUTE = 60.0


def play(
    serve: Engine, work: Engine, pushes: Mapping[int, Sequence[str]], *, minutes: int, most: int = 1
) -> list[list[str]]:
    """Return, for each minute, the branches that had a place; `pushes` says which are pushed to while it was another's."""
    queue = Jobs(work)
    turns = []
    for minute in range(minutes):
        now = NOW + minute * MINUTE
        new = [
            delivery(f"{minute} {number}", branch=branch, now=now - 30, pushed_at=int(now) + number)
            for number, branch in enumerate(pushes.get(minute, ()))
        ]
        take(serve, *new)
        claimed = queue.claim(now=now, limit=10, lease_seconds=5, max_active={TRIGGER: most})
        queue.apply([started(job, run_name=f"run-{job.id}", run_uid=f"uid-{job.id}", at=now) for job in claimed])
        ended = [
            finished(job, result="succeeded", reason="", message="", failed_task=None, at=now + 59)
            for job in queue.started()
        ]
        assert all(queue.apply(ended))
        turns.append([job.ref.removeprefix("refs/heads/") for job in claimed])
    return turns


def starving(*, most: int, minutes: int) -> dict[int, list[str]]:
    """Return pushes that leave no place free: as many new branches each minute, and `main` every five minutes."""
    new = {minute: [f"new-{minute}-{number}" for number in range(most)] for minute in range(minutes)}
    return {minute: [*branches, "main"] if minute % 5 == 0 else branches for minute, branches in new.items()}


def flooded(*, minutes: int, every: int = 3) -> dict[int, list[str]]:
    """Return pushes of which hundreds are to one branch, and one now and then is to another."""
    others = {minute: [f"other-{minute}"] for minute in range(1, minutes, every)}
    return {0: ["flood"] * 200, **others}
