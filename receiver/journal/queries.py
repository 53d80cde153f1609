"""What people ask the journal: what came in, what became of it, and once more please."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, select, update

from receiver.core.events import Push
from receiver.core.identity import job_key
from receiver.errors import ConflictError, NotFoundError, PermanentError
from receiver.journal.engine import reading, writing
from receiver.journal.intake import ACCEPTED
from receiver.journal.revive import revive
from receiver.journal.rows import Wanted, new_job_row, transition_row
from receiver.journal.schema import (
    DEAD,
    DISMISSED,
    FINISHED,
    REPLAY,
    TAMPERED,
    WAITING,
    deliveries,
    jobs,
    keys,
    pushes,
    transitions,
)
from receiver.journal.untrusted import digest, reading_rows, unpacked

_SHORTEST_ID = 4
_LONGEST_NUMBER = 19  # digits; one more would not fit the column
_ATTEMPTS = 4  # each but the first means that somebody else was quicker meanwhile
_LONGEST_PAYLOAD_BYTES = 32 * 1024 * 1024  # twice what journal.max_stored_body_bytes can be set to
_AT_A_TIME = 500
_IS_TAMPERED = func.coalesce(jobs.c.reason, "") == TAMPERED


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands."""

    trigger: str
    generation: int
    state: str
    run_name: str
    attempts: int
    due_at: float
    started_at: float | None
    finished_at: float | None
    result: str | None
    reason: str | None
    message: str | None
    failed_task: str | None


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery and the jobs of its push."""

    id: int
    guid: str
    event: str
    source: str
    received_at: float
    result: str
    reason: str
    detail: str
    repository: str
    ref: str
    head_sha: str
    push_key: bytes | None
    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """One change of a job's state."""

    at: float
    trigger: str
    generation: int
    from_state: str
    to_state: str
    reason: str


class Records:
    """Questions and requests of people, over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def recent(self, *, limit: int) -> list[DeliveryRecord]:
        """Return the newest deliveries, newest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(deliveries).order_by(deliveries.c.id.desc()).limit(limit)).all()
            return [_delivery(connection, row) for row in rows]

    def find(self, wanted: str) -> DeliveryRecord:
        """Return the newest delivery with this number, GUID, or begin of a GUID, in this order; raises NotFoundError."""
        with reading(self._engine) as connection:
            return _delivery(connection, _find(connection, wanted))

    def log(self, push_key: bytes) -> list[TransitionRecord]:
        """Return all state changes of a push's jobs, in order."""
        query = (
            select(transitions, jobs.c.trigger, jobs.c.generation)
            .join(jobs, jobs.c.job_key == transitions.c.job_key)
            .where(jobs.c.push_key == push_key)
            .order_by(transitions.c.id)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [TransitionRecord(r.at, r.trigger, r.generation, r.from_state, r.to_state, r.reason) for r in rows]

    def payload(self, push_key: bytes) -> bytes:
        """Return the stored payload of a push; raises NotFoundError when it was pruned."""
        with reading(self._engine) as connection:
            body = connection.execute(select(pushes.c.body).where(pushes.c.push_key == push_key)).scalar()
        if body is None:
            raise NotFoundError("the payload is no longer in the journal; push again")
        payload = unpacked(body, limit_bytes=_LONGEST_PAYLOAD_BYTES)
        if payload is None:
            raise PermanentError("the stored payload is damaged; push again, or redeliver it at GitHub")
        return payload

    def retry(self, wanted: str | None, *, now: float) -> int:
        """Give the dead jobs of one delivery, or all dead jobs (None), another life; return how many there were."""

        def revived(connection: Connection, row: Row[Any]) -> bool:
            return revive(connection, digest(row.job_key), now=now, reason="retried by hand")

        return self._each_dead(wanted, revived)

    def dismiss(self, wanted: str | None, *, now: float, tampered: bool = False) -> int:
        """Call the dead jobs of one delivery, or all dead jobs (None), finished for good; return how many there were.

        Why each had died stays with it. A redelivery of its push starts nothing any more, as with whatever is done.
        Of all, those that died because they were tampered with are evidence, and only meant with `tampered`; then no others are.
        """
        done = {"state": FINISHED, "result": DISMISSED, "finished_at": now}

        def dismissed(connection: Connection, row: Row[Any]) -> bool:
            still = (jobs.c.id == row.id) & (jobs.c.state == DEAD)
            if connection.execute(update(jobs).where(still).values(done)).rowcount == 0:
                return False
            log = transition_row(digest(row.job_key), DEAD, FINISHED, "dismissed by hand", now)
            connection.execute(transitions.insert().values(log))
            return True

        return self._each_dead(wanted, dismissed, _IS_TAMPERED if tampered else ~_IS_TAMPERED)

    def _each_dead(
        self,
        wanted: str | None,
        change: Callable[[Connection, Row[Any]], bool],
        among_all: ColumnElement[bool] | None = None,
    ) -> int:
        """Change the dead jobs of one delivery, or all (None) of a kind, some at a time: others write in between."""
        changed, last = 0, 0
        while True:
            with reading_rows(), writing(self._engine) as connection:
                which = _dead(connection, wanted).where(jobs.c.id > last).limit(_AT_A_TIME)
                if wanted is None and among_all is not None:
                    which = which.where(among_all)
                rows = connection.execute(which).all()
                changed += sum(change(connection, row) for row in rows)
            if len(rows) < _AT_A_TIME:
                return changed
            last = rows[-1].id

    def tampered(self) -> int:
        """Return how many jobs are dead because they were tampered with."""
        with reading(self._engine) as connection:
            found = select(func.count()).select_from(jobs).where(jobs.c.state == DEAD, _IS_TAMPERED)
            return int(connection.execute(found).scalar() or 0)

    def replay(self, wanted: str, push: Push, again: list[Wanted], *, now: float) -> list[JobRecord]:
        """Ask for new runs of an old push, one for each trigger, and record that; return the new jobs."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._replay(wanted, push, again, now)
            except ConflictError:
                continue
        return self._replay(wanted, push, again, now)

    def _replay(self, wanted: str, push: Push, again: list[Wanted], now: float) -> list[JobRecord]:
        with reading_rows(), writing(self._engine) as connection:
            row = _find(connection, wanted)
            if row.push_key is None:
                raise PermanentError(f"the delivery {row.guid} was ignored ({row.reason}): it has no push to replay")
            new = [_next_generation(connection, row, push, trigger, now) for trigger in again]
            connection.execute(
                deliveries.insert().values(
                    guid=row.guid,
                    event=row.event,
                    source=REPLAY,
                    hook_id=row.hook_id,
                    installation_id=row.installation_id,
                    received_at=now,
                    result=ACCEPTED,
                    reason="replayed by hand",
                    detail=f"new runs of delivery {row.id}",
                    repository=row.repository,
                    ref=row.ref,
                    head_sha=row.head_sha,
                    push_key=row.push_key,
                )
            )
            return new


def _next_generation(connection: Connection, row: Row[Any], push: Push, wanted: Wanted, now: float) -> JobRecord:
    push_key = digest(row.push_key)
    latest = select(func.max(jobs.c.generation)).where(jobs.c.push_key == push_key, jobs.c.trigger == wanted.trigger)
    generation = (connection.execute(latest).scalar() or 1) + 1
    key = job_key(push_key, wanted.trigger, generation)
    # Pruning may have taken the last generation and left its key.
    while connection.execute(select(keys.c.key).where(keys.c.key == key)).first():
        generation += 1
        key = job_key(push_key, wanted.trigger, generation)
    values = new_job_row(
        key=key, push_key=push_key, wanted=wanted, generation=generation, push=push, guid=row.guid, now=now
    )
    connection.execute(jobs.insert().values(values))
    connection.execute(keys.insert().values(key=key, push_key=push_key, keep_from=now))
    connection.execute(transitions.insert().values(transition_row(key, "", WAITING, "replayed by hand", now)))
    stored = connection.execute(select(jobs).where(jobs.c.job_key == key)).one()
    return _job(stored)


def _dead(connection: Connection, wanted: str | None) -> Select[Any]:
    query = select(jobs.c.id, jobs.c.job_key).where(jobs.c.state == DEAD).order_by(jobs.c.id)
    return query if wanted is None else query.where(jobs.c.push_key == _find(connection, wanted).push_key)


def _find(connection: Connection, wanted: str) -> Row[Any]:
    is_number = wanted.isascii() and wanted.isdecimal() and len(wanted) < _LONGEST_NUMBER
    if not is_number and len(wanted) < _SHORTEST_ID:
        raise NotFoundError(
            f"`{wanted}` is too short for the begin of a GUID; give its number or at least {_SHORTEST_ID} characters"
        )
    query = select(deliveries).order_by(deliveries.c.id.desc())
    rows = connection.execute(query.where(deliveries.c.id == int(wanted))).all() if is_number else []
    # One GUID in seven begins with four digits.
    if not rows and len(wanted) >= _SHORTEST_ID:
        rows = connection.execute(query.where(deliveries.c.guid.startswith(wanted.lower(), autoescape=True))).all()
    if not rows:
        raise NotFoundError(f"there is no delivery `{wanted}`; `receiver deliveries list` shows those that are kept")
    if len({row.guid for row in rows}) > 1:
        raise PermanentError(f"`{wanted}` begins several GUIDs; give more of it")
    return rows[0]


def _delivery(connection: Connection, row: Row[Any]) -> DeliveryRecord:
    # On SQLite a forged row can name anything.
    push_key = row.push_key if isinstance(row.push_key, bytes) else None
    query = select(jobs).where(jobs.c.push_key == push_key).order_by(jobs.c.id)
    found = [] if push_key is None else connection.execute(query).all()
    return DeliveryRecord(
        id=row.id,
        guid=row.guid,
        event=row.event,
        source=row.source,
        received_at=row.received_at,
        result=row.result,
        reason=row.reason,
        detail=row.detail,
        repository=row.repository,
        ref=row.ref,
        head_sha=row.head_sha,
        push_key=push_key,
        jobs=tuple(_job(job) for job in found),
    )


def _job(row: Row[Any]) -> JobRecord:
    return JobRecord(
        trigger=row.trigger,
        generation=row.generation,
        state=row.state,
        run_name=row.run_name,
        attempts=row.attempts,
        due_at=row.due_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        result=row.result,
        reason=row.reason,
        message=row.message,
        failed_task=row.failed_task,
    )
