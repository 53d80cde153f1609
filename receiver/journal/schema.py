"""What the journal stores, in SQL that SQLite and PostgreSQL both take.

Times are seconds since 1970 as doubles, keys are digests of 32 bytes (receiver.core.identity). The public plane inserts
and reads; whatever changes a row belongs to the private plane and to the command line.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 1

WAITING, STARTED, FINISHED, DEAD = "waiting", "started", "finished", "dead"
SUPERSEDED, CANCELLED = "superseded", "cancelled"
"""Open for runs that a newer push replaces and for runs that a person stops; nothing sets them yet."""
IN_FLIGHT = (WAITING, STARTED)

DISMISSED = "dismissed"
"""The result of a job that was dead, and that a person has dealt with otherwise."""
TAMPERED = "tampered"
"""The reason of a job that is dead because it is not what the receiver stores."""

WEBHOOK, REPLAY = "webhook", "replay"

LONGEST_DETAIL = 2_000
"""Characters that are kept of what an answer said in words; a path in it can be as long as a payload."""

metadata = MetaData()
# SQLite numbers rows by itself only in a column that is exactly INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")

journal = Table(
    "journal",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("migrated_at", Double, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("guid", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("hook_id", BigInteger),
    Column("installation_id", BigInteger),
    Column("received_at", Double, nullable=False),
    Column("result", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("head_sha", Text, nullable=False),
    Column("push_key", LargeBinary(32)),
    Index("deliveries_by_guid", "guid"),
    Index("deliveries_by_time", "received_at"),
    Index("deliveries_by_push", "push_key"),
)

pushes = Table(
    "pushes",
    metadata,
    Column("push_key", LargeBinary(32), primary_key=True),
    Column("guid", Text, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("push_key", LargeBinary(32), nullable=False),
    Column("keep_from", Double, nullable=False),
    Index("keys_by_time", "keep_from"),
)
"""Outlives all it belongs to: a push's two keys and a job's key. `keep_from` is when the replay window starts to run."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("job_key", LargeBinary(32), nullable=False),
    # PostgreSQL then lets no job in beside the pruning of its payload; SQLite has one writer and does not look.
    Column("push_key", LargeBinary(32), ForeignKey("pushes.push_key"), nullable=False),
    Column("trigger", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("guid", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("ref", Text, nullable=False),
    Column("head_sha", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("waiting_since", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("salt", SmallInteger, nullable=False),
    Column("run_name", Text, nullable=False),
    Column("run_uid", Text),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("result", Text),
    Column("reason", Text),
    Column("message", Text),
    Column("failed_task", Text),
    UniqueConstraint("job_key", name="jobs_by_key"),
    UniqueConstraint("push_key", "trigger", "generation", name="jobs_once"),
    Index("jobs_by_state", "state", "due_at"),
    Index("jobs_by_branch", "trigger", "repository_id", "ref", "started_at"),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("job_key", LargeBinary(32), nullable=False),
    Column("at", Double, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("transitions_by_job", "job_key"),
)
"""Append-only: one row for each change of a job's state, written in the same transaction as the change.

One from waiting to waiting tells when a job was put off for the first time since it waits.
"""

revivals = Table(
    "revivals",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("job_key", LargeBinary(32), nullable=False),
    Column("guid", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
)
"""A redelivery of something dead: the public plane asks here, since it may only insert, and the private plane revives."""
