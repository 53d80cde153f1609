"""`receiver journal`: the database itself."""

from __future__ import annotations

import time

import click

from receiver.cli.common import Context
from receiver.journal.copying import copy_journal
from receiver.journal.engine import journal_url, open_engine
from receiver.journal.migrate import migrate as migrate_journal


@click.group()
def journal() -> None:
    """Look after the journal's database."""


@journal.command()
@click.pass_obj
def migrate(context: Context) -> None:
    """Create the tables, or bring them to this version. Safe to repeat, and to run several at once."""
    done = migrate_journal(open_engine(journal_url(context.settings.journal.url)), now=time.time())
    click.echo("journal created" if done else "journal is of this version already")


@journal.command(
    epilog="Example: receiver journal copy sqlite:////var/lib/receiver/journal.db postgresql+psycopg://receiver@db/receiver"
)
@click.argument("source")
@click.argument("target")
def copy(source: str, target: str) -> None:
    """Copy a whole journal into an empty one. Stop `serve` and `work` first: what comes in meanwhile would stay behind."""
    origin, destination = open_engine(journal_url(source)), open_engine(journal_url(target))

    def show(table: str, rows: int) -> None:
        click.echo(f"{table}: {rows} rows", err=True)

    rows = copy_journal(origin, destination, now=time.time(), progress=show)
    click.echo(f"{rows} rows copied; now set journal.url and start `serve` and `work`")
