"""Waking the private plane through PostgreSQL: LISTEN and NOTIFY, across hosts.

A lost notification costs at most one polling interval, never a push: the journal is the truth.
"""

from __future__ import annotations

import logging
import select
import socket
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import URL, Engine

from receiver.journal.engine import NETWORK
from receiver.journal.impatient import ImpatientConnection

_log = logging.getLogger(__name__)
_CHANNEL = "striv_receiver_jobs"


class NotifyWaker:
    """The public plane's end: `wake` never fails."""

    def __init__(self, engine: Engine) -> None:
        # One round trip, no transaction around it.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    def wake(self) -> None:
        """Notify all listeners of the channel."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")
        except sqlalchemy.exc.SQLAlchemyError as error:
            _log.info("nobody was woken", extra={"problem": str(getattr(error, "orig", error))[:200]})

    def close(self) -> None:
        """Nothing of its own to release."""


class NotifyAlarm:
    """The private plane's end, on a connection of its own; while that is away, `wait` is a plain time-out."""

    def __init__(self, url: URL) -> None:
        # As SQLAlchemy itself would connect, which knows several hosts in one URL.
        positional, self._address = url.get_dialect()().create_connect_args(url)
        if positional:
            raise TypeError("psycopg is given names only")
        self._connection: psycopg.Connection[Any] | None = None
        self._reported = False
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reader.setblocking(False)

    def wait(self, timeout_seconds: float) -> None:
        """Return at a notification, at `ring`, or after the time-out; what piled up meanwhile is taken in one.

        Returns at once when it begins to listen, since nobody knows what was missed until then.
        """
        if self._connection is None and self._listen():
            return
        sources: list[socket.socket | psycopg.Connection[Any]] = [self._reader]
        if self._connection is not None:
            sources.append(self._connection)
        ready, _, _ = select.select(sources, [], [], timeout_seconds)
        if self._reader in ready:
            self._drain_rings()
        if self._connection is not None and self._connection in ready:
            self._drain_notifications(self._connection)

    def ring(self) -> None:
        """Wake this process's own `wait`, from another thread or a signal handler."""
        try:
            self._writer.send(b"\0", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Release the connection and the sockets."""
        for end in (self._connection, self._reader, self._writer):
            if end is not None:
                end.close()
        self._connection = None

    def _listen(self) -> bool:
        try:
            connection = ImpatientConnection.connect(**{**self._address, **NETWORK}, autocommit=True)
            connection.execute(f"LISTEN {_CHANNEL}")
        except psycopg.Error as error:
            if not self._reported:
                _log.warning("not listening, looking each second", extra={"problem": str(error).strip()[:200]})
            self._reported = True
            return False
        self._connection, self._reported = connection, False
        return True

    def _drain_notifications(self, connection: psycopg.Connection[Any]) -> None:
        try:
            for _ in connection.notifies(timeout=0):
                pass
        except psycopg.Error:
            # Gone. `wait` connects again.
            connection.close()
            self._connection = None

    def _drain_rings(self) -> None:
        try:
            while self._reader.recv(16):
                pass
        except BlockingIOError:
            return
