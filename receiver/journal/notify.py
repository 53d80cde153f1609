"""Waking the private plane through PostgreSQL: LISTEN and NOTIFY, across hosts.

A lost notification costs at most one polling interval, never a push: the journal is the truth.
"""

from __future__ import annotations

import logging
import select
import socket

import psycopg
import sqlalchemy
from sqlalchemy import URL, Engine

_log = logging.getLogger(__name__)
_CHANNEL = "striv_receiver_jobs"


class NotifyWaker:
    """The public plane's end: `wake` never fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wake(self) -> None:
        """Notify all listeners of the channel."""
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")
        except sqlalchemy.exc.SQLAlchemyError as error:
            _log.info("nobody was woken", extra={"problem": str(getattr(error, "orig", error))[:200]})

    def close(self) -> None:
        """Nothing of its own to release."""


class NotifyAlarm:
    """The private plane's end, on a connection of its own; while that is away, `wait` is a plain time-out."""

    def __init__(self, url: URL) -> None:
        self._address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: psycopg.Connection | None = None
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reader.setblocking(False)

    def wait(self, timeout_seconds: float) -> None:
        """Return at a notification, at `ring`, or after the time-out; what piled up meanwhile is taken in one."""
        connection = self._listening()
        sources: list[socket.socket | psycopg.Connection] = [self._reader]
        if connection is not None:
            sources.append(connection)
        ready, _, _ = select.select(sources, [], [], timeout_seconds)
        if self._reader in ready:
            self._drain_rings()
        if connection is not None and connection in ready:
            self._drain_notifications(connection)

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

    def _listening(self) -> psycopg.Connection | None:
        if self._connection is None:
            try:
                self._connection = psycopg.connect(self._address, autocommit=True, connect_timeout=2)
                self._connection.execute(f"LISTEN {_CHANNEL}")
            except psycopg.Error as error:
                _log.warning("not listening, asking each second", extra={"problem": str(error).strip()[:200]})
                self._connection = None
        return self._connection

    def _drain_notifications(self, connection: psycopg.Connection) -> None:
        try:
            for _ in connection.notifies(timeout=0):
                pass
        except psycopg.Error:
            connection.close()
            self._connection = None

    def _drain_rings(self) -> None:
        try:
            while self._reader.recv(16):
                pass
        except BlockingIOError:
            return
