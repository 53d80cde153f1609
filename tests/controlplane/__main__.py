"""The control plane for people: python -m tests.controlplane up | down | status | env | build."""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

import click

from tests.controlplane import monitoring, programs
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.programs import ProgramsError, exclusive, say
from tests.support.waiting import NotReadyError

DESCRIPTION = """\
A real Kubernetes API server with Tekton on this machine, without root, containers and nodes.
Everything is decided as in a cluster, but pods stay Pending.

  up      start it, or what is missing of it, and leave it running (the first time, the programs are built)
  down    stop it and remove its data
  status  tell what runs; exit code 1 when something does not
  env     print the lines that let kubectl use it:  eval "$(python -m tests.controlplane env)"
  build   only build the programs, and promtool, with which the tests check the alerts
"""

BUSY = "another command works on this control plane; waiting for it"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 not running or failed, 2 usage."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.controlplane",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("up", "down", "status", "env", "build"))
    parser.add_argument(
        "--state", type=Path, default=default_state_dir(), help="folder of its data (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    commands = {"up": up, "down": down, "status": status, "env": environment, "build": build}
    try:
        return commands[options.command](options.state)
    except (ProgramsError, NotReadyError) as error:
        say(str(error))
        return 1


def default_state_dir() -> Path:
    """Return the folder where `up` keeps its control plane."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "striv-receiver" / "controlplane"


def up(state_dir: Path) -> int:
    """Start the control plane and leave it running."""
    started = time.monotonic()
    using = programs.ensure()
    with exclusive(state_dir, busy=BUSY):
        plane = ControlPlane.start(state_dir, keep=True, using=using)
    say(f"up after {time.monotonic() - started:.1f} s: {plane.server}, logs in {state_dir / 'logs'}")
    return environment(state_dir)


def down(state_dir: Path) -> int:
    """Stop the control plane and remove its data."""
    if not state_dir.exists():
        say("it is not running")
        return 0
    with exclusive(state_dir, busy=BUSY):
        plane = ControlPlane.attach(state_dir)
        if plane:
            plane.stop()
    say("stopped" if plane else "it is not running")
    return 0


def status(state_dir: Path) -> int:
    """Print each component and whether it runs."""
    plane = ControlPlane.attach(state_dir)
    if not plane:
        say("it is not running")
        return 1
    running = plane.running()
    for name, alive in running.items():
        log = state_dir / "logs" / f"{name}.log"
        click.echo(f"{'up  ' if alive else 'DOWN'} {name} (port {plane.ports[name]}, log {log})")
    return 0 if all(running.values()) else 1


def environment(state_dir: Path) -> int:
    """Print export lines for a shell."""
    plane = ControlPlane.attach(state_dir)
    if not plane:
        say("it is not running")
        return 1
    for name, value in plane.environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    if folder := plane.programs.folder_for_path:
        click.echo(f"export PATH={shlex.quote(str(folder))}:$PATH")
    return 0


def build(_state_dir: Path) -> int:
    """Build the programs that are missing and print where they are."""
    for path in (*programs.ensure().paths.values(), monitoring.ensure().promtool):
        click.echo(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
