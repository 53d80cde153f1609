"""Rows as they are when they are new, and what a job's is made of, for all who add some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from receiver.core.events import Push
from receiver.core.identity import run_name
from receiver.journal.schema import WAITING


@dataclass(frozen=True, slots=True)
class Wanted:
    """One job that a push should become: a matched trigger's name and the prefix of its run names."""

    trigger: str
    name_prefix: str


def new_job_row(
    *, key: bytes, push_key: bytes, wanted: Wanted, generation: int, push: Push, guid: str, now: float
) -> dict[str, Any]:
    """Return the row of a job that nobody has touched yet."""
    return {
        "job_key": key,
        "push_key": push_key,
        "trigger": wanted.trigger,
        "generation": generation,
        "guid": guid,
        "repository": push.repository,
        "repository_id": push.repository_id,
        "ref": push.ref,
        "head_sha": push.head_sha,
        "state": WAITING,
        "created_at": now,
        "waiting_since": now,
        "due_at": now,
        "attempts": 0,
        "lease": 0,
        "lease_until": 0.0,
        "salt": 0,
        "run_name": run_name(wanted.name_prefix, key),
    }


def transition_row(key: bytes, from_state: str, to_state: str, reason: str, at: float) -> dict[str, Any]:
    """Return a row of the log of state changes."""
    return {"job_key": key, "at": at, "from_state": from_state, "to_state": to_state, "reason": reason}
