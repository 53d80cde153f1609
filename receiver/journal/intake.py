"""The public plane's side of the journal: taking deliveries in. It inserts and reads, it never changes a row.

Many deliveries share one transaction. Whether a push is new is decided inside it, so that concurrent redeliveries
of one push start one run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine

from receiver.core.events import Envelope, Push
from receiver.core.identity import PushKeys, job_key, run_name
from receiver.errors import ConflictError
from receiver.journal.bulk import insert_many, select_in
from receiver.journal.engine import writing
from receiver.journal.rows import Wanted, new_job_row, transition_row
from receiver.journal.schema import (
    DEAD,
    IN_FLIGHT,
    LONGEST_DETAIL,
    WAITING,
    WEBHOOK,
    deliveries,
    jobs,
    keys,
    pushes,
    revivals,
    transitions,
)

ACCEPTED, DUPLICATE, IGNORED = "accepted", "duplicate", "ignored"
PRUNED = "pruned"
"""What an answer calls a job that finished so long ago that only its key is left."""
_FOREVER = 1e15
_ATTEMPTS = 4  # each but the first means that another replica was quicker meanwhile


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery as the public plane decided on it; `payload` is the bounded JSON text, `wanted` is empty when ignored."""

    envelope: Envelope
    received_at: float
    reason: str
    detail: str = ""
    push: Push | None = None
    keys: PushKeys | None = None
    payload: bytes = field(default=b"", repr=False)
    wanted: tuple[Wanted, ...] = ()
    repository: str = ""
    source: str = WEBHOOK


@dataclass(frozen=True, slots=True)
class JobView:
    """What the answer says about one job."""

    trigger: str
    run_name: str
    state: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery: `result` is accepted, duplicate or ignored; `in_flight` tells whether a job still moves."""

    result: str
    jobs: tuple[JobView, ...] = ()
    in_flight: bool = False


class Intake:
    """Takes batches of deliveries into the journal; `woken` is called after a commit that gave the private plane work."""

    def __init__(self, engine: Engine, *, woken: Callable[[], None]) -> None:
        self._engine = engine
        self._woken = woken

    def take(self, batch: list[NewDelivery]) -> list[Receipt]:
        """Store a batch in one transaction and return a receipt for each; raises JournalError when it did not commit."""
        # Compressed before the transaction, so that nobody waits for the database's lock meanwhile.
        bodies = {id(delivery): zlib.compress(delivery.payload, 1) for delivery in batch if delivery.wanted}
        for _ in range(_ATTEMPTS):
            try:
                receipts, work = self._attempt(batch, bodies)
            except ConflictError:
                # Another replica stored the same push between our look and our commit. Now it can be seen.
                continue
            if work:
                self._woken()
            return receipts
        raise ConflictError("other replicas store the same pushes; redeliver later")

    def _attempt(self, batch: list[NewDelivery], bodies: dict[int, bytes]) -> tuple[list[Receipt], bool]:
        with writing(self._engine) as connection:
            plan = _Plan(connection, batch, bodies)
            plan.insert(connection)
        return plan.receipts, plan.has_work


class _Plan:
    """What a batch adds to the journal, worked out against what the journal holds."""

    def __init__(self, connection: Connection, batch: list[NewDelivery], bodies: dict[int, bytes]) -> None:
        self._bodies = bodies
        self._rows: dict[sqlalchemy.Table, list[dict[str, Any]]] = {
            table: [] for table in (deliveries, pushes, keys, jobs, transitions, revivals)
        }
        self._fresh: dict[bytes, JobView] = {}
        accepted = [(delivery, delivery.keys) for delivery in batch if delivery.keys is not None and delivery.wanted]
        self._known = _push_keys_of(
            connection, [key for delivery, found in accepted for key in _candidates(delivery, found)]
        )
        self._known |= _push_keys_of(connection, self._joined(accepted))
        self._stored = _jobs_of(connection, [key for key, push_key in self._known.items() if key != push_key])
        self._has_body = _with_body(connection, list(set(self._known.values())))
        self.receipts = [self._add(delivery) if delivery.wanted else self._ignore(delivery) for delivery in batch]

    @property
    def has_work(self) -> bool:
        return bool(self._rows[jobs] or self._rows[revivals])

    def insert(self, connection: Connection) -> None:
        # Two replicas that store the same pushes in another order would wait for each other.
        self._rows[pushes].sort(key=lambda row: bytes(row["push_key"]))
        self._rows[keys].sort(key=lambda row: bytes(row["key"]))
        for table, rows in self._rows.items():
            if rows:
                insert_many(connection, table, rows)

    def _joined(self, accepted: list[tuple[NewDelivery, PushKeys]]) -> list[bytes]:
        """The job keys of pushes that are known under another key than their own; the first look could not ask for them."""
        known = dict(self._known)
        joined = []
        for delivery, found in accepted:
            push_key = _push_key(known, found)
            # One delivery of this batch can join the next to a push that the journal holds.
            known.setdefault(found.by_time, push_key)
            known.setdefault(found.by_guid, push_key)
            if push_key != found.by_time:
                joined += [job_key(push_key, wanted.trigger, 1) for wanted in delivery.wanted]
        return joined

    def _ignore(self, delivery: NewDelivery) -> Receipt:
        self._rows[deliveries].append(_delivery_row(delivery, IGNORED, delivery.reason, None))
        return Receipt(IGNORED)

    def _add(self, delivery: NewDelivery) -> Receipt:
        push, found = delivery.push, delivery.keys
        if push is None or found is None:
            raise ValueError("a delivery with wanted jobs needs its push and its keys")
        push_key = self._home(delivery, found)
        before = len(self._fresh)
        views = tuple(self._job(wanted, push_key, push, delivery) for wanted in delivery.wanted)
        is_new = len(self._fresh) > before
        # A GUID is what anybody likes to make of it; where the signed time is known already, it says nothing more.
        own = (found.by_time,) if found.by_time in self._known else (found.by_time, found.by_guid)
        for key in (*own, *(job_key(push_key, wanted.trigger, 1) for wanted in delivery.wanted)):
            self._know(key, push_key, delivery)
        if is_new and push_key not in self._has_body:
            self._has_body.add(push_key)
            self._rows[pushes].append(
                {
                    "push_key": push_key,
                    "guid": delivery.envelope.guid,
                    "received_at": delivery.received_at,
                    "body_bytes": len(delivery.payload),
                    "body": self._bodies[id(delivery)],
                }
            )
        result, reason = (ACCEPTED, delivery.reason) if is_new else (DUPLICATE, DUPLICATE)
        self._rows[deliveries].append(_delivery_row(delivery, result, reason, push_key))
        return Receipt(result, views, in_flight=any(view.state in IN_FLIGHT for view in views))

    def _know(self, key: bytes, push_key: bytes, delivery: NewDelivery) -> None:
        if key in self._known:
            return
        pushed_at = None if delivery.push is None else delivery.push.pushed_at
        keep_from = _FOREVER if pushed_at is None else max(delivery.received_at, float(pushed_at))
        self._known[key] = push_key
        self._rows[keys].append({"key": key, "push_key": push_key, "keep_from": keep_from})

    def _home(self, delivery: NewDelivery, found: PushKeys) -> bytes:
        """Return the key under which this push is stored: its own, or that of the push that it joins."""
        joined = _push_key(self._known, found)
        if joined == found.by_time or joined in self._has_body:
            return joined
        # The payload of the other push was pruned, and this one must not be stored as if it were that: the private plane
        # checks. So this push stands for itself, and what the other has run already is not run again.
        for wanted in delivery.wanted:
            if job_key(joined, wanted.trigger, 1) in self._known:
                self._know(job_key(found.by_time, wanted.trigger, 1), joined, delivery)
        return found.by_time

    def _job(self, wanted: Wanted, push_key: bytes, push: Push, delivery: NewDelivery) -> JobView:
        key = job_key(push_key, wanted.trigger, 1)
        if key in self._fresh:
            return self._fresh[key]
        if key in self._known:
            return self._known_job(wanted, key, delivery)
        guid, now = delivery.envelope.guid, delivery.received_at
        row = new_job_row(key=key, push_key=push_key, wanted=wanted, generation=1, push=push, guid=guid, now=now)
        self._rows[jobs].append(row)
        self._rows[transitions].append(transition_row(key, "", WAITING, delivery.reason, now))
        self._fresh[key] = JobView(wanted.trigger, row["run_name"], WAITING)
        return self._fresh[key]

    def _known_job(self, wanted: Wanted, key: bytes, delivery: NewDelivery) -> JobView:
        stored = self._stored.get(key)
        if stored is None:
            return JobView(wanted.trigger, run_name(wanted.name_prefix, key), PRUNED)
        if stored.state != DEAD:
            return JobView(wanted.trigger, stored.run_name, stored.state)
        self._rows[revivals].append({"job_key": key, "guid": delivery.envelope.guid, "asked_at": delivery.received_at})
        return JobView(wanted.trigger, stored.run_name, WAITING)


def _delivery_row(delivery: NewDelivery, result: str, reason: str, push_key: bytes | None) -> dict[str, Any]:
    push = delivery.push
    return {
        "guid": delivery.envelope.guid,
        "event": delivery.envelope.event,
        "source": delivery.source,
        "hook_id": delivery.envelope.hook_id,
        "installation_id": push.installation_id if push else None,
        "received_at": delivery.received_at,
        "result": result,
        "reason": reason,
        "detail": delivery.detail[:LONGEST_DETAIL],
        "repository": push.repository if push else delivery.repository,
        "ref": push.ref if push else "",
        "head_sha": push.head_sha if push else "",
        "push_key": push_key,
    }


def _push_key(known: dict[bytes, bytes], found: PushKeys) -> bytes:
    return known.get(found.by_time) or known.get(found.by_guid) or found.by_time


def _candidates(delivery: NewDelivery, found: PushKeys) -> list[bytes]:
    return [found.by_time, found.by_guid, *(job_key(found.by_time, wanted.trigger, 1) for wanted in delivery.wanted)]


def _push_keys_of(connection: Connection, wanted: list[bytes]) -> dict[bytes, bytes]:
    rows = select_in(connection, (keys.c.key, keys.c.push_key), keys.c.key, wanted)
    return {bytes(row.key): bytes(row.push_key) for row in rows}


def _jobs_of(connection: Connection, wanted: list[bytes]) -> dict[bytes, Any]:
    rows = select_in(connection, (jobs.c.job_key, jobs.c.state, jobs.c.run_name), jobs.c.job_key, wanted)
    return {bytes(row.job_key): row for row in rows}


def _with_body(connection: Connection, wanted: list[bytes]) -> set[bytes]:
    rows = select_in(connection, (pushes.c.push_key,), pushes.c.push_key, wanted)
    return {bytes(row.push_key) for row in rows}
