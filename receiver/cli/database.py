"""The journal that the configuration names; apart from what all subcommands share, since not all need what it loads."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, Engine

from receiver.cli.common import Context
from receiver.errors import SettingsError
from receiver.journal.engine import journal_url, open_engine, sqlite_path
from receiver.journal.migrate import check_version


def configured_url(context: Context) -> URL:
    """Return the journal's URL; raises SettingsError when it is neither a SQLite file nor PostgreSQL."""
    try:
        return journal_url(context.settings.journal.url)
    except SettingsError as error:
        raise context.settings.error("$.journal.url", error.problem) from error


def journal_file(context: Context) -> Path | None:
    """Return the SQLite file, None for PostgreSQL; raises SettingsError as `configured_url` does."""
    return sqlite_path(configured_url(context))


def open_journal(context: Context, *, durable: bool = True) -> Engine:
    """Return the journal's engine; raises SettingsError unless it is there and of this version."""
    opened = open_engine(configured_url(context), durable=durable)
    check_version(opened)
    return opened
