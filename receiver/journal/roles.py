"""What each plane may do to a journal in PostgreSQL: the public plane inserts what is new and reads what that takes.

SQLite knows no roles; there the file's permissions are all there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from receiver.errors import ConflictError
from receiver.journal.schema import (
    LONGEST_DETAIL,
    WEBHOOK,
    deliveries,
    jobs,
    journal,
    keys,
    pushes,
    revivals,
    transitions,
)

_CANCELED = "57014"  # PostgreSQL's SQLSTATE for a statement that took too long
POLICIES = ("receiver_reads", "receiver_serve", "receiver_work")
"""The names of the row security policies that `grant` makes."""
_FRESH_JOB = (
    "state = 'waiting' AND generation = 1 AND attempts = 0 AND lease = 0 AND lease_until = 0 AND salt = 0"
    " AND run_uid IS NULL AND started_at IS NULL AND finished_at IS NULL"
    " AND result IS NULL AND reason IS NULL AND message IS NULL AND failed_task IS NULL"
    # What the worker would stop at, or what would not fit into its memory: bytea and text have no bounds of their own.
    " AND octet_length(job_key) = 32 AND octet_length(push_key) = 32"
    " AND waiting_since BETWEEN 0 AND 1e11 AND due_at BETWEEN 0 AND 1e11 AND created_at BETWEEN 0 AND 1e11"
    " AND length(guid) <= 128 AND length(repository) <= 512 AND length(ref) <= 1000 AND length(head_sha) <= 64"
    " AND length(run_name) <= 63 AND length(trigger) <= 64"
)
_FRESH_TRANSITION = (
    "from_state = '' AND to_state = 'waiting' AND octet_length(job_key) = 32 AND length(reason) <= 128"
    " AND at BETWEEN 0 AND 1e11"
)
_FRESH = {
    deliveries: (
        f"source = '{WEBHOOK}' AND received_at BETWEEN 0 AND 1e11 AND (push_key IS NULL OR octet_length(push_key) = 32)"
        " AND length(guid) <= 128 AND length(event) <= 64 AND length(result) <= 64 AND length(reason) <= 128"
        f" AND length(detail) <= {LONGEST_DETAIL} AND length(repository) <= 512 AND length(ref) <= 1000"
        " AND length(head_sha) <= 64"
    ),
    pushes: "octet_length(push_key) = 32 AND length(guid) <= 128 AND octet_length(body) <= 20000000",
    keys: "octet_length(key) = 32 AND octet_length(push_key) = 32",
    jobs: _FRESH_JOB,
    transitions: _FRESH_TRANSITION,
    revivals: "octet_length(job_key) = 32 AND length(guid) <= 128",
}
"""What a row must be that the public plane brings: new, and small enough to be read by whoever reads many of them at once."""


def _insert(table: Table) -> str:
    """Return the right to insert rows that the database numbers.

    A number of one's own choice could be one that is too large for the worker, or the next of the worker's own rows.
    """
    return f"INSERT ({', '.join(column.name for column in table.c if column.name != 'id')})"


_SERVE = {
    deliveries: _insert(deliveries),
    pushes: f"{_insert(pushes)}, SELECT (push_key)",  # never a payload: some are of private repositories
    keys: f"{_insert(keys)}, SELECT (key, push_key)",
    jobs: f"{_insert(jobs)}, SELECT (job_key, state, run_name)",
    transitions: _insert(transitions),
    revivals: _insert(revivals),
    journal: "SELECT",
}
_WORK = {
    deliveries: "SELECT, INSERT, DELETE",
    pushes: "SELECT, DELETE, UPDATE (received_at)",  # the latter is what it takes to pass over rows that are locked
    keys: "SELECT, INSERT, DELETE",
    jobs: "SELECT, INSERT, UPDATE, DELETE",
    transitions: "SELECT, INSERT, DELETE",
    revivals: "SELECT, DELETE",
    journal: "SELECT, UPDATE (migrated_at)",  # what it takes to lock the row, by which workers take turns
}


# In the order in which the planes take them, or each would wait for the other.
_LOCKED = (keys, revivals, journal, jobs, pushes, deliveries, transitions)
_OURS = f"ARRAY[{', '.join(repr(table.name) for table in _LOCKED)}]::regclass[]"
_NOTED = f"SELECT obj_description('{journal.name}'::regclass, 'pg_class')"
_STATE = f"""
SELECT string_agg(line, ' ' ORDER BY line)
FROM (
  SELECT concat_ws(' ', relname, relrowsecurity, relforcerowsecurity, relacl) AS line
  FROM pg_class WHERE oid = ANY({_OURS})
  UNION ALL
  SELECT concat_ws(' ', sequence.relname, sequence.relacl)
  FROM pg_depend JOIN pg_class AS sequence ON sequence.oid = objid AND sequence.relkind = 'S' WHERE refobjid = ANY({_OURS})
  UNION ALL
  SELECT concat_ws(' ', attrelid, attname, attacl)
  FROM pg_attribute WHERE attrelid = ANY({_OURS}) AND attacl IS NOT NULL
  UNION ALL
  SELECT concat_ws(' ', polrelid, polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid),
    pg_get_expr(polwithcheck, polrelid))
  FROM pg_policy WHERE polrelid = ANY({_OURS})
) AS rights
"""  # noqa: S608 - our own names
"""Rights, row security and policies of the journal's tables, in one text."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of the database roles as which the public and the private plane connect."""

    serve: str
    work: str


def are_granted(connection: Connection, roles: Roles) -> bool:
    """Tell whether both roles have the rights that `grant` gives, and nobody has changed rights since. Locks nothing."""
    return bool(connection.exec_driver_sql(_NOTED).scalar() == _fingerprint(connection, _rights(connection, roles)))


def grant(connection: Connection, roles: Roles) -> None:
    """Give both roles exactly their rights, whatever they had before; the connection's role has to own the tables.

    Row security goes further than a right to insert: the public plane can bring new jobs, none that seems to be done.
    Raises ConflictError while somebody keeps the tables.
    """
    statements = _rights(connection, roles)
    # At once, or not at all: whoever writes waits behind this. Above a second, so that an autovacuum gives way.
    connection.exec_driver_sql("SET LOCAL lock_timeout = '1500ms'; SET LOCAL statement_timeout = '4s'")
    try:
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(table.name for table in _LOCKED)} IN ACCESS EXCLUSIVE MODE")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _CANCELED:
            raise ConflictError(f"the tables were not free within four seconds: {error.orig}") from error
        raise
    connection.exec_driver_sql("SET LOCAL statement_timeout = '60s'")
    for statement in statements:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"COMMENT ON TABLE {journal.name} IS '{_fingerprint(connection, statements)}'")


def _rights(connection: Connection, roles: Roles) -> list[str]:
    quote = connection.dialect.identifier_preparer.quote
    return list(_statements(serve=quote(roles.serve), work=quote(roles.work)))


def _fingerprint(connection: Connection, statements: list[str]) -> str:
    """Return what stands for these rights as this database has them; others' changes to either make another."""
    state = connection.exec_driver_sql(_STATE).scalar() or ""
    return "rights " + hashlib.sha256("\n".join([*statements, state]).encode()).hexdigest()


def _statements(*, serve: str, work: str) -> Iterator[str]:
    for table in _LOCKED:
        yield f"REVOKE ALL ON {table.name} FROM PUBLIC"
    for role, rights in ((serve, _SERVE), (work, _WORK)):
        for table, allowed in rights.items():
            yield f"REVOKE ALL ON {table.name} FROM {role}"
            yield f"GRANT {allowed} ON {table.name} TO {role}"
            if "id" in table.c and "INSERT" in allowed:
                yield f"GRANT USAGE ON SEQUENCE {table.name}_id_seq TO {role}"
    for table, fresh in _FRESH.items():
        yield f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"
        rules = (
            "FOR SELECT USING (true)",
            f"FOR INSERT TO {serve} WITH CHECK ({fresh})",
            f"TO {work} USING (true) WITH CHECK (true)",
        )
        for policy, rule in zip(POLICIES, rules, strict=True):
            yield f"DROP POLICY IF EXISTS {policy} ON {table.name}"
            yield f"CREATE POLICY {policy} ON {table.name} {rule}"
