"""Opening a plane's internal port."""

from __future__ import annotations

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
