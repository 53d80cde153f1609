"""`receiver run`: both planes, for a laptop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import click

from receiver.cli.common import EXIT_FAILED, Context
from receiver.cli.database import configured_url, journal_file
from receiver.errors import SettingsError
from receiver.journal.engine import open_engine
from receiver.journal.migrate import migrate


@click.command()
@click.pass_obj
def run(context: Context) -> None:
    """Run both planes, as two processes, for a laptop; creates the journal when there is none.

    Ctrl-C, or SIGTERM, stops both. When one of them ends, the other is stopped too.
    """
    file = journal_file(context)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"journal.url: the folder {file.parent} cannot be created ({error.strerror}); "
                "name another file, for instance with RECEIVER__JOURNAL__URL=sqlite:////tmp/journal.db"
            ) from error
    migrate(open_engine(configured_url(context)), now=time.time())
    command = [sys.executable, "-m", "receiver", "--config", str(context.config)]
    children = [subprocess.Popen([*command, plane], start_new_session=True) for plane in ("serve", "work")]

    asked = threading.Event()

    def forward(number: int, _frame: object) -> None:
        asked.set()
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    # To a plane that was asked already, another signal would say: at once, whatever you owe.
    for child in children:
        if child.poll() is None and not asked.is_set():
            child.terminate()
    codes = [child.wait() for child in children]
    if any(codes):
        sys.exit(EXIT_FAILED)
