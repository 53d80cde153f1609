"""The command line: the only place that wires settings, journal, clients and planes together."""

from receiver.cli.main import main

__all__ = ["main"]
