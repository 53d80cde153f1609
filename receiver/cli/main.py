"""The command `receiver` and what all its subcommands share."""

from __future__ import annotations

import importlib
import os
import sys
from collections import UserDict
from pathlib import Path
from typing import Any

import click

from receiver import __version__
from receiver.cli.common import CONFIG_VARIABLE, EXIT_FAILED, Context
from receiver.errors import ReceiverError, SettingsError

_EXIT_CODES = """\b
Exit codes:
  0  done
  1  it could not be done: the message says why and what to do next
  2  the command line or the configuration is not usable
  3  `check` found something that would not work; `send` was refused
"""

_HELP = """Turn GitHub pushes into Tekton PipelineRuns: never lost, never doubled, never forged.

\b
Try it:   receiver --config config/receiver.yaml check --offline
          receiver explain push.json
          receiver run
"""

_MODULES = {
    "serve": "serve",
    "work": "work",
    "run": "run",
    "check": "check",
    "explain": "inspect",
    "schema": "inspect",
    "send": "send",
    "deliveries": "deliveries",
    "journal": "journal",
}


class _Commands(UserDict[str, Any]):
    """The subcommands, each loaded when it is asked for: no plane carries the other's libraries."""

    def __getitem__(self, name: str) -> click.Command:
        module = _MODULES[name]
        command: click.Command = getattr(importlib.import_module(f"receiver.cli.{module}"), name)
        return command


@click.group(
    commands=_Commands(_MODULES),
    help=_HELP,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="receiver")
@click.option(
    "--config",
    "-c",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=CONFIG_VARIABLE,
    default=Path("config/receiver.yaml"),
    show_default=True,
    show_envvar=True,
    help="The configuration.",
)
@click.pass_context
def receiver(context: click.Context, config: Path) -> None:
    """Remember where the configuration is, for whichever subcommand follows."""
    context.obj = Context(config=config, environment=dict(os.environ))


def main() -> None:
    """Run the command line; errors of our own become one line and an exit code."""
    try:
        receiver(prog_name="receiver", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except SettingsError as error:
        click.echo(f"receiver: {error}", err=True)
        sys.exit(2)
    except ReceiverError as error:
        click.echo(f"receiver: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
