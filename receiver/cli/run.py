"""`receiver run`: both planes, for a laptop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import click

from receiver.cli.common import EXIT_FAILED, Context
from receiver.journal.engine import journal_url, open_engine
from receiver.journal.migrate import migrate


@click.command()
@click.pass_obj
def run(context: Context) -> None:
    """Run both planes, as two processes, for a laptop; creates the journal when there is none.

    Ctrl-C, or SIGTERM, stops both. When one of them ends, the other is stopped too.
    """
    file = context.journal_file()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    migrate(open_engine(journal_url(context.settings.journal.url)), now=time.time())
    command = [sys.executable, "-m", "receiver", "--config", str(context.config)]
    children = [subprocess.Popen([*command, plane], start_new_session=True) for plane in ("serve", "work")]

    def forward(number: int, _frame: object) -> None:
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    for child in children:
        if child.poll() is None:
            child.terminate()
    codes = [child.wait() for child in children]
    if any(codes):
        sys.exit(EXIT_FAILED)
