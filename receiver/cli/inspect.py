"""`receiver explain` and `receiver schema`: what would happen, before it does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from receiver.cli.common import Context, output_option, printable
from receiver.core.events import JSON, decode_push, payload_of, read_envelope
from receiver.core.identity import job_key, push_keys
from receiver.core.params import PushContext
from receiver.core.pipelinerun import RunIdentity, build_manifest
from receiver.core.triggers import Decision, decide
from receiver.errors import RejectedError
from receiver.settings import settings_schema

_NO_DELIVERY = "00000000-0000-4000-8000-000000000000"


@click.command(epilog="Example: receiver explain push.json")
@click.argument("payload", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--delivery", "guid", default=_NO_DELIVERY, help="The delivery's GUID, where it matters.")
@output_option
@click.pass_obj
def explain(context: Context, payload: Path, guid: str, output: str) -> None:
    """Tell which triggers a push PAYLOAD (JSON file, or -) matches, why not, and what would be created. Needs no cluster."""
    body = sys.stdin.buffer.read() if str(payload) == "-" else payload.read_bytes()
    try:
        guid = read_envelope(event="push", guid=guid, hook_id=None).guid
        text = payload_of(body, JSON)
        push = decode_push(text, with_files=True)
        answers = [_explained(decision, text, guid) for decision in decide(context.triggers, push)]
    except RejectedError as error:
        raise click.ClickException(
            f"the receiver would answer {error.status} {error.reason}: {error.detail}"
        ) from error
    if output == "json":
        click.echo(json.dumps(answers, indent=2))
        return
    click.echo(f"push to {push.repository}, {printable(push.ref)}, commit {push.head_sha or '-'}")
    for answer in answers:
        verdict = (
            click.style("matches", fg="green") if answer["matched"] else click.style("does not match", fg="yellow")
        )
        click.echo(f"trigger {answer['trigger']} {verdict} ({answer['reason']}): {answer['detail']}")
        if answer["manifest"]:
            click.echo("---\n" + _yaml(answer["manifest"]))


def _yaml(manifest: dict[str, Any]) -> str:
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).rstrip()
    if all(line.isprintable() for line in text.split("\n")):
        return text
    # Escaped where a terminal would obey it: still the same YAML.
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=False).rstrip()


def _explained(decision: Decision, payload: bytes, guid: str) -> dict[str, Any]:
    manifest = None
    trigger = decision.trigger
    if decision.matched:
        push = decode_push(payload, with_files=trigger.reads_files)
        params = trigger.reader.read(push, PushContext(delivery_id=guid, trigger=trigger.name), payload)
        key = job_key(push_keys(push, guid).by_time, trigger.name, 1)
        manifest = build_manifest(trigger, push, params, RunIdentity(key=key, generation=1, delivery_id=guid))
    return {
        "trigger": trigger.name,
        "matched": decision.matched,
        "reason": decision.reason,
        "detail": decision.detail,
        "manifest": manifest,
    }


@click.command()
def schema() -> None:
    """Print the JSON Schema of receiver.yaml, for editors."""
    click.echo(json.dumps(settings_schema(), indent=2))
