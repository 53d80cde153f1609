"""What subcommands share: the configuration, and how times and texts are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import click

from receiver.core.triggers import Trigger, compile_triggers
from receiver.settings import ClusterSettings, Settings, load_settings

CONFIG_VARIABLE = "RECEIVER_CONFIG"
EXIT_FAILED = 1
EXIT_PROBLEMS = 3

output_option = click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of the output.",
)


@dataclass
class Context:
    """What the command line was given."""

    config: Path
    environment: Mapping[str, str] = field(repr=False)

    @cached_property
    def settings(self) -> Settings:
        """The settings; raises SettingsError."""
        return load_settings(self.config, self.environment)

    @cached_property
    def triggers(self) -> tuple[Trigger, ...]:
        """The compiled triggers; raises SettingsError."""
        return compile_triggers(self.settings)

    @cached_property
    def cluster(self) -> ClusterSettings:
        """Where the runs live; raises SettingsError when the kubeconfig is no file."""
        settings = self.settings
        named = settings.cluster.kubeconfig
        if named and not settings.path(named).is_file():
            raise settings.error(
                "$.cluster.kubeconfig",
                f"cluster.kubeconfig: there is no file {settings.path(named)}; name a kubeconfig (the path starts at "
                "receiver.yaml's folder), or in a pod write null for its ServiceAccount",
            )
        return settings.cluster


def split_address(address: str) -> tuple[str, int]:
    """Split host:port; IPv6 addresses stand in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host means all, as it does everywhere


def printable(text: str) -> str:
    """Return `text` with what a terminal would obey replaced: refs and messages are an outsider's choice."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shown_time(seconds: float | None) -> str:
    """Return a time as ISO 8601 in UTC, to the second; `-` for none, and for what is no time: a row can be forged."""
    try:
        return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "-"
