"""`receiver check`: prove a configuration before the first push does."""

from __future__ import annotations

import sys
import time

import click

from receiver.cli.common import EXIT_PROBLEMS, Context
from receiver.cli.database import journal_file
from receiver.serve.secrets import SecretFiles


@click.command(epilog="Example: receiver check --offline")
@click.option("--offline", is_flag=True, help="Files only: settings, secrets, filters, templates. What gates a start.")
@click.option(
    "--cluster",
    "cluster_only",
    is_flag=True,
    help="No webhook secret is read: for where `work` runs, which holds the cluster's token and none of them.",
)
@click.pass_obj
def check(context: Context, offline: bool, cluster_only: bool) -> None:
    """Prove the configuration: files, then rights, Pipelines and templates against the real cluster (dry run).

    In a cluster no container holds all that this takes: `serve` has the secrets (--offline), `work` the token (--cluster).

    Exit code 2: the configuration is not usable. 3: the cluster would not run it.
    """
    if offline and cluster_only:
        raise click.UsageError("--offline and --cluster exclude each other; leave both out to prove everything")
    settings, triggers = context.settings, context.triggers
    _say(True, f"{context.config}: triggers {', '.join(trigger.name for trigger in triggers)}")
    _say(True, f"journal: {journal_file(context) or 'PostgreSQL'}")
    if not cluster_only:
        secrets = SecretFiles(settings, clock=time.monotonic)
        number = len(secrets.verifier)
        _say(True, f"secrets: {number} secret{'s' * (number > 1)}, none empty")
    if offline:
        return
    from receiver.clients.cluster import Cluster  # noqa: PLC0415 - gating a start needs no client for the cluster
    from receiver.work.proof import prove  # noqa: PLC0415 - as above

    cluster = Cluster(context.cluster, folder=settings.folder, connections=2)
    good = True
    for finding in prove(triggers, cluster):
        _say(finding.good, finding.text)
        good = good and finding.good
    if not good:
        sys.exit(EXIT_PROBLEMS)


def _say(good: bool, text: str) -> None:
    click.echo(f"{click.style('ok  ', fg='green') if good else click.style('FAIL', fg='red')}  {text}")
