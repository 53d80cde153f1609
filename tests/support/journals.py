"""Journals for tests: an engine that is disposed of, deliveries as the public plane hands them over, and what is stored."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, event, select
from sqlalchemy.engine import make_url

from receiver.core.events import Envelope, decode_push
from receiver.core.identity import push_keys
from receiver.journal.engine import open_engine, reading
from receiver.journal.intake import Intake, NewDelivery, Receipt
from receiver.journal.migrate import migrate
from receiver.journal.rows import Wanted

NOW = 1_800_000_000.0
TRIGGER = "striv"
REPOSITORY = "bittrance/striv"


def sha(seed: str) -> str:
    """40 hex digits that look like a commit's."""
    return hashlib.sha256(seed.encode()).hexdigest()[:40]


def guid() -> str:
    """A new delivery's id."""
    return str(uuid.uuid4())


def payload_of_push(seed: str, *, pushed_at: int | None, branch: str = "main", **changes: Any) -> bytes:
    """The payload of a push that moves a branch from one commit of `seed` to another."""
    repository = {"id": 347122219, "full_name": REPOSITORY} | ({} if pushed_at is None else {"pushed_at": pushed_at})
    payload = {
        "ref": f"refs/heads/{branch}",
        "before": sha("before " + seed),
        "after": sha(seed),
        "repository": repository,
        "head_commit": {"id": sha(seed), "message": f"Change {seed}"},
        "pusher": {"name": "ada"},
    }
    return json.dumps(payload | changes).encode()


@contextmanager
def opened(folder: Path, *, durable: bool = False, migrated: bool = True) -> Iterator[Engine]:
    """An engine on the journal in `folder`; tests that prove nothing about the disk do without its waits."""
    engine = open_engine(make_url(f"sqlite:///{folder}/journal.db"), durable=durable)
    try:
        if migrated:
            migrate(engine, now=NOW)
        yield engine
    finally:
        engine.dispose()


def delivery(
    seed: str = "1",
    *,
    id: str | None = None,  # noqa: A002 - GitHub's word
    pushed_at: int | None = int(NOW),
    now: float = NOW,
    triggers: Sequence[str] = (TRIGGER,),
    **changes: Any,
) -> NewDelivery:
    """A delivery of a push that all of `triggers` match; `pushed_at` None is a payload that does not say."""
    content = payload_of_push(seed, pushed_at=pushed_at, **changes)
    decoded = decode_push(content, with_files=False)
    envelope = Envelope(event="push", guid=id or guid())
    return NewDelivery(
        envelope,
        now,
        "matched",
        push=decoded,
        keys=push_keys(decoded, envelope.guid),
        payload=content,
        wanted=tuple(Wanted(name, f"{name}-"[:9]) for name in triggers),
    )


def ignored(reason: str = "branches", *, id: str | None = None, now: float = NOW) -> NewDelivery:  # noqa: A002 - as above
    """A delivery that no trigger wants."""
    return NewDelivery(Envelope(event="push", guid=id or guid()), now, reason, repository="bittrance/striv")


def take(engine: Engine, *batch: NewDelivery) -> list[Receipt]:
    """Take one batch in."""
    return Intake(engine, woken=lambda: None).take(list(batch))


def rows(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, in the order of its primary key."""
    query = select(table).order_by(*table.primary_key.columns)
    with reading(engine) as connection:
        return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's documented name


def count(engine: Engine, table: Table) -> int:
    """The number of a table's rows."""
    return len(rows(engine, table))


def run_sql(engine: Engine, *statements: str) -> None:
    """Do to the database what no code of the receiver does."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    """Collect the SQL that an engine is given meanwhile."""
    seen: list[str] = []

    def note(_connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
