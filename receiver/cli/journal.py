"""`receiver journal`: the database itself."""

from __future__ import annotations

import time

import click

from receiver.cli.common import Context
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
