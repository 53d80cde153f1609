"""Opening a plane's internal port."""

from __future__ import annotations

import socket
from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector

from receiver.cli.common import split_address
from receiver.errors import SettingsError
from receiver.private import PrivatePort


def open_private_port(
    setting: str, listen: str | None, registry: CollectorRegistry, healthy: Callable[[], bool]
) -> PrivatePort | None:
    """Start to answer on `listen`, where that is set; raises SettingsError, naming `setting`, when it is taken."""
    if listen is None:
        return None
    host, port = split_address(listen)
    ProcessCollector(registry=registry)
    try:
        private = PrivatePort(host, port, registry=registry, healthy=healthy)
    except OSError as error:
        raise SettingsError(f"{setting}: cannot listen on {listen} ({error.strerror}); choose another port") from error
    private.start()
    return private


def free_address(setting: str, listen: str) -> tuple[str, int]:
    """Return the IP address and port of `listen`; raises SettingsError, naming `setting`, when nobody could listen there.

    The HTTP server itself knows no host names, and what it says of a port that is taken helps nobody.
    """
    name, port = split_address(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingsError(
            f"{setting}: cannot listen on {listen} ({error.strerror}); choose another address or port"
        ) from error
    return str(address[0]), port
