"""`receiver deliveries`: what came in, what became of it, and once more please."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
from sqlalchemy import Engine

from receiver.cli.common import Context, output_option, printable, shown_time
from receiver.cli.database import open_journal
from receiver.core.events import decode_push
from receiver.core.triggers import decide
from receiver.errors import PermanentError
from receiver.journal.queries import DeliveryRecord, JobRecord, Records, TransitionRecord
from receiver.journal.rows import Wanted
from receiver.journal.wake import open_waker


@click.group(epilog="Example: receiver deliveries show 72d3162e")
def deliveries() -> None:
    """See what came in and what became of it; retry or dismiss a dead job, replay a push."""


@deliveries.command("list")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first."
)
@output_option
@click.pass_obj
def list_deliveries(context: Context, limit: int, output: str) -> None:
    """List the newest deliveries: delivery -> run -> outcome."""
    records = Records(open_journal(context)).recent(limit=limit)
    if output == "json":
        click.echo(json.dumps([_as_dict(record) for record in records], indent=2))
        return
    rows: list[tuple[str, ...]] = [
        ("ID", "DELIVERY", "RECEIVED", "REPOSITORY", "REF", "SHA", "RESULT", "RUN", "OUTCOME")
    ]
    for record in records:
        rows += [_row(record, job) for job in record.jobs or (None,)]
    _table(rows)


@deliveries.command()
@click.argument("delivery")
@output_option
@click.pass_obj
def show(context: Context, delivery: str, output: str) -> None:
    """Show one delivery (its number, its GUID or the begin of it) with the log of its jobs."""
    records = Records(open_journal(context))
    record = records.find(delivery)
    log = [] if record.push_key is None else records.log(record.push_key)
    if output == "json":
        click.echo(json.dumps({**_as_dict(record), "log": [asdict(entry) for entry in log]}, indent=2))
        return
    for line in _lines(record, log):
        click.echo(printable(line))


@deliveries.command(epilog="Example: receiver deliveries retry --dead")
@click.argument("delivery", required=False)
@click.option("--dead", is_flag=True, help="All dead jobs, of whatever delivery.")
@output_option
@click.pass_obj
def retry(context: Context, delivery: str | None, dead: bool, output: str) -> None:
    """Give the dead jobs of one delivery, or of all, another life: the same run as before."""
    if (delivery is None) != dead:
        raise click.UsageError("give either a DELIVERY or --dead")
    engine = open_journal(context)
    revived = Records(engine).retry(delivery, now=time.time())
    if not revived and delivery is not None:
        raise PermanentError(
            f"the delivery {delivery} has no dead job; `receiver deliveries show {delivery}` tells its state"
        )
    _wake(engine)
    text = f"{revived} dead job{'' if revived == 1 else 's'} waiting again"
    click.echo(json.dumps({"retried": revived}) if output == "json" else text)


@deliveries.command(epilog="Example: receiver deliveries dismiss 72d3162e")
@click.argument("delivery", required=False)
@click.option("--dead", is_flag=True, help="All dead jobs, of whatever delivery, but those dead as `tampered`.")
@click.option("--tampered", is_flag=True, help="All jobs dead as `tampered`, also those that no delivery speaks of.")
@output_option
@click.pass_obj
def dismiss(context: Context, delivery: str | None, dead: bool, tampered: bool, output: str) -> None:
    """Put the dead jobs of one delivery, or of all, aside for good: they were dealt with, or need no run any more."""
    if [delivery is not None, dead, tampered].count(True) != 1:
        raise click.UsageError("give either a DELIVERY or --dead or --tampered")
    records = Records(open_journal(context))
    dismissed = records.dismiss(delivery, now=time.time(), tampered=tampered)
    if not dismissed and delivery is not None:
        raise PermanentError(
            f"the delivery {delivery} has no dead job; `receiver deliveries show {delivery}` tells its state"
        )
    text = f"{dismissed} dead job{'' if dismissed == 1 else 's'} dismissed"
    click.echo(json.dumps({"dismissed": dismissed}) if output == "json" else text)
    if dead and (left := records.tampered()):
        click.echo(
            f"receiver: {left} left, dead as `tampered`: docs/operations.md, Tampered, says what that means; "
            "then `receiver deliveries dismiss --tampered`",
            err=True,
        )


@deliveries.command()
@click.argument("delivery")
@output_option
@click.pass_obj
def replay(context: Context, delivery: str, output: str) -> None:
    """Ask for a new run of an old push, beside the run that it had. Today's configuration decides."""
    engine = open_journal(context)
    records = Records(engine)
    record = records.find(delivery)
    if record.push_key is None:
        raise PermanentError(f"the delivery {record.guid} was ignored ({record.reason}): it has no push to replay")
    with_files = any(trigger.reads_files for trigger in context.triggers)
    push = decode_push(records.payload(record.push_key), with_files=with_files)
    decisions = decide(context.triggers, push)
    again = [Wanted(decision.trigger.name, decision.trigger.name_prefix) for decision in decisions if decision.matched]
    if not again:
        why = "; ".join(f"{decision.trigger.name}: {decision.detail}" for decision in decisions)
        raise PermanentError(f"no trigger matches this push today: {why}")
    jobs = records.replay(delivery, push, again, now=time.time())
    _wake(engine)
    if output == "json":
        runs = [{"run": job.run_name, "trigger": job.trigger, "generation": job.generation} for job in jobs]
        click.echo(json.dumps(runs, indent=2))
        return
    for job in jobs:
        click.echo(f"new run {job.run_name} (trigger {job.trigger}, generation {job.generation})")


def _wake(engine: Engine) -> None:
    waker = open_waker(engine)
    waker.wake()
    waker.close()


def _as_dict(record: DeliveryRecord) -> dict[str, Any]:
    return {**asdict(record), "push_key": None if record.push_key is None else record.push_key.hex()}


def _lines(record: DeliveryRecord, log: list[TransitionRecord]) -> Iterator[str]:
    number = f"number {record.id}, {record.source}"
    yield f"delivery    {record.guid} ({number}), {record.event}, {shown_time(record.received_at)}"
    yield f"push        {record.repository or '-'} {record.ref or '-'} {record.head_sha or '-'}"
    yield f"result      {record.result}: {record.reason}{'; ' + record.detail if record.detail else ''}"
    for job in record.jobs:
        yield ""
        yield f"trigger     {job.trigger}, generation {job.generation}: {job.state}, run {job.run_name}"
        yield f"outcome     {_outcome(job)}"
        if job.message:
            yield f"message     {job.message}"
        for entry in log:
            if (entry.trigger, entry.generation) == (job.trigger, job.generation):
                yield f"  {shown_time(entry.at)}  {entry.from_state or 'new'} -> {entry.to_state}: {entry.reason}"


def _row(record: DeliveryRecord, job: JobRecord | None) -> tuple[str, ...]:
    result = record.result if record.result in ("accepted", record.reason) else f"{record.result}: {record.reason}"
    ref = record.ref.removeprefix("refs/heads/").removeprefix("refs/") or "-"
    common = (
        str(record.id),
        record.guid[:8] or "-",
        shown_time(record.received_at),
        record.repository or "-",
        ref,
        record.head_sha[:7] or "-",
        result,
    )
    return (*common, job.run_name, _outcome(job)) if job else (*common, "-", "-")


def _outcome(job: JobRecord) -> str:
    if job.state == "finished":
        return f"{job.result}: {job.failed_task}" if job.failed_task else f"{job.result}"
    if job.state == "dead":
        return f"dead: {job.reason}"
    if job.attempts:
        return f"{job.state}, {job.attempts} failed attempts"
    return job.state


def _table(rows: list[tuple[str, ...]]) -> None:
    # Before the widths are taken. What is in the journal may have been put there by anybody.
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
