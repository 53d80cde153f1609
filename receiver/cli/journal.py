"""`receiver journal`: the database itself."""

from __future__ import annotations

import time
from pathlib import Path

import click

from receiver.cli.common import Context
from receiver.cli.database import configured_url, journal_file
from receiver.errors import SettingsError
from receiver.journal.backup import back_up
from receiver.journal.copying import copy_journal
from receiver.journal.engine import journal_url, open_engine
from receiver.journal.migrate import migrate as migrate_journal
from receiver.journal.roles import Roles


@click.group()
def journal() -> None:
    """Look after the journal's database."""


@journal.command(epilog="\b\nExample: receiver journal migrate --serve-role receiver_serve --work-role receiver_work")
@click.option("--serve-role", metavar="ROLE", help="PostgreSQL: give this role what `serve` needs, and no more.")
@click.option("--work-role", metavar="ROLE", help="PostgreSQL: give this role what `work` needs, and no more.")
@click.pass_obj
def migrate(context: Context, serve_role: str | None, work_role: str | None) -> None:
    """Create the tables, or bring them to this version. Safe to repeat, and to run several at once."""
    if (serve_role is None) != (work_role is None):
        raise click.UsageError("give both --serve-role and --work-role, or neither")
    if serve_role and journal_file(context) is not None:
        raise click.UsageError("SQLite knows no roles; leave --serve-role and --work-role out")
    roles = Roles(serve=serve_role, work=work_role) if serve_role and work_role else None
    done = migrate_journal(open_engine(configured_url(context)), now=time.time(), roles=roles)
    click.echo("journal created" if done else "journal is of this version already")


@journal.command(epilog="Example: receiver journal backup /var/lib/receiver/backup.db")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(context: Context, file: Path) -> None:
    """Copy a SQLite journal into the new FILE, consistent and checked, while `serve` and `work` run."""
    source = journal_file(context)
    if source is None:
        raise click.UsageError(
            "the journal is in PostgreSQL, which has its own tools: pg_dump --format=custom, as the database's owner"
        )
    if not source.is_file():
        raise SettingsError(f"there is no journal {source}, and so nothing to back up; is journal.url right?")
    # Not `open_journal`: before an upgrade, or after one that failed, the journal is of another version.
    size_bytes = back_up(open_engine(configured_url(context), durable=False), file)
    click.echo(f"{file}: {size_bytes} bytes, checked")


@journal.command(
    epilog="\b\nExample: receiver journal copy sqlite:////var/lib/receiver/journal.db postgresql+psycopg://receiver@db/receiver"
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
