"""Asking whether the journal would take a push, without leaving one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, Table

from receiver.core.events import Envelope, Push
from receiver.core.filters import ChangedFiles
from receiver.journal.engine import writing
from receiver.journal.intake import IGNORED, NewDelivery, Receipt
from receiver.journal.rows import Wanted, new_job_row, transition_row
from receiver.journal.schema import WAITING, WEBHOOK, deliveries, jobs, keys, pushes, transitions

_NAME = "probe"
PROBE = NewDelivery(Envelope(event=_NAME, guid=""), 0.0, _NAME)
"""Stands among deliveries for the question. It shares their transaction, or has one of its own; its receipt is the answer."""
_NOBODYS = Push(
    repository="",
    repository_id=0,
    ref="",
    before="",
    after="",
    head_sha="",
    created=False,
    deleted=False,
    forced=False,
    pushed_at=None,
    compare="",
    pusher="",
    message="",
    installation_id=None,
    changed=ChangedFiles((), complete=True),
)


def with_probes(
    engine: Engine, take: Callable[[list[NewDelivery]], list[Receipt]]
) -> Callable[[list[NewDelivery]], list[Receipt]]:
    """Return `take` for batches that may hold PROBE; raises JournalError as `take` does, and for a probe alone as it would."""

    def probed(batch: list[NewDelivery]) -> list[Receipt]:
        real = [delivery for delivery in batch if delivery is not PROBE]
        if not real:
            _try(engine)
        receipts = iter(take(real) if real else ())
        return [Receipt(IGNORED) if delivery is PROBE else next(receipts) for delivery in batch]

    return probed


def _try(engine: Engine) -> None:
    """Commit, durably, that a push was stored and taken back.

    Neither database notices that nothing is left: SQLite writes each page that was touched, PostgreSQL its log, and both wait
    for the disk. The public plane's role in PostgreSQL could not delete or change a row.
    """
    with writing(engine) as connection, connection.begin_nested() as taken_back:
        for table, row in _rows().items():
            connection.execute(table.insert().inline(), row)
        taken_back.rollback()


def _rows() -> dict[Table, dict[str, Any]]:
    key = secrets.token_bytes(32)
    texts = dict.fromkeys(("guid", "event", "result", "reason", "detail", "repository", "ref", "head_sha"), "")
    wanted = Wanted(_NAME, f"{_NAME}-")
    return {
        deliveries: {**texts, "source": WEBHOOK, "received_at": 0.0, "push_key": key},
        pushes: {"push_key": key, "guid": "", "received_at": 0.0, "body_bytes": 0, "body": b""},
        keys: {"key": key, "push_key": key, "keep_from": 0.0},
        jobs: new_job_row(key=key, push_key=key, wanted=wanted, generation=1, push=_NOBODYS, guid="", now=0.0),
        transitions: transition_row(key, "", WAITING, "", 0.0),
    }
