"""What the holder of a lease can write about its job."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from receiver.journal.changes import Change, Job, died, finished, postponed, salted, started
from receiver.journal.jobs import Jobs
from receiver.journal.schema import jobs, transitions
from tests.support.jobs import claim
from tests.support.journals import NOW, delivery, rows, take

Kind = Callable[[Job], Change]
UNSTORABLE, STORED = "a\0b\ud800c\U0001f680", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\U0001f680"


def claim_one(engine: Engine) -> Job:
    """Take a push in and claim its job."""
    take(engine, delivery())
    (job,) = claim(engine)
    return job


def apply(engine: Engine, *changes: Change) -> list[bool]:
    """Write changes in one transaction; return which were the writer's to make."""
    return Jobs(engine).apply(changes)


def start(job: Job) -> Change:
    """The job's run exists."""
    return started(job, run_name="striv-x", run_uid="u", at=NOW)


def postpone(job: Job) -> Change:
    """The job is to be tried again, and there is no run."""
    return postponed(job, due_at=NOW + 30, reason="HTTP 429", at=NOW, counts=True, in_doubt=False)


def doubt(job: Job) -> Change:
    """The job is to be tried again, and there may be a run."""
    return postponed(job, due_at=NOW + 30, reason="HTTP 504", at=NOW, counts=True, in_doubt=True)


def salt(job: Job) -> Change:
    """The run's name was another's."""
    return salted(job, at=NOW)


def die(job: Job) -> Change:
    """The job is given up."""
    return died(job, reason="refused", message="HTTP 403", at=NOW)


KINDS = pytest.mark.parametrize("kind", [start, postpone, doubt, salt, die])


def assert_words_are_stored(serve: Engine, engine: Engine) -> None:
    """Assert that words which no database takes cost neither their change nor those that share its transaction."""
    take(serve, delivery("1"), delivery("2"), delivery("3"))
    one, two, three = claim(engine)
    late = postponed(one, due_at=NOW, reason=UNSTORABLE, at=NOW, counts=True, in_doubt=False)
    assert apply(engine, late, died(two, reason="refused", message=UNSTORABLE, at=NOW), start(three)) == [True] * 3
    (known,) = Jobs(engine).started()
    outcome = finished(known, result="x", reason=UNSTORABLE, message=UNSTORABLE, failed_task=UNSTORABLE, at=NOW)
    assert apply(engine, outcome) == [True]
    assert [row["message"] for row in rows(engine, jobs)] == [STORED] * 3
    assert [row["reason"] for row in rows(engine, transitions)][3:] == [STORED, "refused", "created", STORED]
