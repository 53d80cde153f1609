"""Waking the private plane at once: a Unix datagram beside the SQLite file.

A lost datagram costs at most one polling interval, never a push: the journal is the truth.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine

from receiver.journal.engine import sqlite_path

_SUFFIX = "-wake"


class _Folder:
    """The folder of the journal, opened once: addresses below /proc/self/fd escape the limit of 107 bytes on socket paths."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        self.address = f"/proc/self/fd/{self._descriptor}/{file.name}{_SUFFIX}"

    def close(self) -> None:
        os.close(self._descriptor)


class Waker(Protocol):
    """The public plane's end."""

    def wake(self) -> None:
        """Tell the private plane that there is work; never blocks for long and never fails."""

    def close(self) -> None:
        """Release what it holds."""


class Alarm(Protocol):
    """The private plane's end."""

    def wait(self, timeout_seconds: float) -> None:
        """Return when there is work, at `ring`, or after the time-out."""

    def ring(self) -> None:
        """Wake this process's own `wait`, from another thread or a signal handler."""

    def close(self) -> None:
        """Release what it holds."""


def open_waker(engine: Engine) -> Waker:
    """Return the waker that belongs to a journal."""
    file = sqlite_path(engine.url)
    return SocketWaker(file) if file is not None else _notify().NotifyWaker(engine)


def open_alarm(engine: Engine) -> Alarm:
    """Return the alarm that belongs to a journal."""
    file = sqlite_path(engine.url)
    return SocketAlarm(file) if file is not None else _notify().NotifyAlarm(engine.url)


def _notify() -> Any:
    from receiver.journal import notify  # noqa: PLC0415 - psycopg is 10 MB that a receiver on SQLite does not need

    return notify


class SocketWaker:
    """The public plane's end: `wake` never blocks and never fails."""

    def __init__(self, file: Path) -> None:
        self._folder = _Folder(file)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def wake(self) -> None:
        """Send one datagram; nobody listening, or one who has not yet read the last, is as good."""
        try:
            self._socket.sendto(b"\0", self._folder.address)
        except OSError:
            return

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
        self._folder.close()


class SocketAlarm:
    """The private plane's end: `wait` returns when something was written, or after the time-out."""

    def __init__(self, file: Path) -> None:
        """Bind the address; the newest listener of a journal is the one that is woken."""
        self._folder = _Folder(file)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path(self._folder.address).unlink(missing_ok=True)
        self._socket.bind(self._folder.address)
        _open_to_group(self._folder.address)
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def wait(self, timeout_seconds: float) -> None:
        """Return at a datagram, at `ring`, or after the time-out; what piled up meanwhile is taken in one."""
        ready, _, _ = select.select([self._socket, self._reader], [], [], timeout_seconds)
        for source in ready:
            source.setblocking(False)
            try:
                while source.recv(16):
                    pass
            except BlockingIOError:
                continue

    def ring(self) -> None:
        """Wake this process's own `wait`, from another thread or a signal handler."""
        try:
            self._writer.send(b"\0", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Release the sockets; the address stays for the next listener to replace."""
        for end in (self._socket, self._reader, self._writer):
            end.close()
        self._folder.close()


def _open_to_group(address: str) -> None:
    """Let the other plane, another user of the same group, write to this socket."""
    # Whoever may write the folder can put a link in the socket's place meanwhile, and would have us open another file.
    descriptor = os.open(address, os.O_PATH | os.O_NOFOLLOW)
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            Path(f"/proc/self/fd/{descriptor}").chmod(0o660)
    finally:
        os.close(descriptor)
