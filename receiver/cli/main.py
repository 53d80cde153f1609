"""The command `receiver` and what all its subcommands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from receiver import __version__
from receiver.cli import deliveries, inspect, journal, planes, send
from receiver.cli.common import CONFIG_VARIABLE, EXIT_FAILED, Context
from receiver.errors import ReceiverError, SettingsError

_EXIT_CODES = """\b
Exit codes:
  0  done
  1  it could not be done: the message says why and what to do next
  2  the command line or the configuration is not usable
  3  `check` found something that would not work; `send` was refused
"""


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    r"""Turn GitHub pushes into Tekton PipelineRuns: never lost, never doubled, never forged.

    \b
    Try it:   receiver --config config/receiver.yaml check --offline
              receiver explain push.json
              receiver run
    """
    context.obj = Context(config=config, environment=dict(os.environ))


for command in (
    planes.serve,
    planes.work,
    planes.run,
    inspect.check,
    inspect.explain,
    inspect.schema,
    send.send,
    deliveries.deliveries,
    journal.journal,
):
    receiver.add_command(command)


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
