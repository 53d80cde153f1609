"""`receiver send`: sign a payload and deliver it as GitHub would."""

from __future__ import annotations

import shlex
import sys
import uuid
from pathlib import Path

import click
import requests

from receiver.cli.common import EXIT_FAILED, EXIT_PROBLEMS
from receiver.core.signature import sign

_TIMEOUT_SECONDS = 10
"""What GitHub itself waits for an answer."""


@click.command(
    epilog="\b\nExample: receiver send push.json --url http://127.0.0.1:8000/webhook --secret-file config/secrets/github"
)
@click.argument("payload", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--url", required=True, help="The webhook's address.")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The secret to sign with.",
)
@click.option("--event", default="push", show_default=True, help="X-GitHub-Event.")
@click.option("--delivery", "guid", default=None, help="X-GitHub-Delivery; a new GUID unless given.")
@click.option("--curl", is_flag=True, help="Print the curl command instead of sending.")
def send(payload: Path, url: str, secret_file: Path, event: str, guid: str | None, curl: bool) -> None:
    """Sign PAYLOAD (a file, or - for standard input) and deliver it; print the answer. Exit code 3: refused."""
    if curl and str(payload) == "-":
        raise click.UsageError("--curl needs PAYLOAD as a file, which the command can name")
    body = sys.stdin.buffer.read() if str(payload) == "-" else payload.read_bytes()
    key = secret_file.read_bytes().rstrip(b"\r\n")
    if not key:
        raise click.UsageError(f"{secret_file} is empty")
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or str(uuid.uuid4()),
        "X-Hub-Signature-256": sign(key, body),
    }
    if curl:
        click.echo(curl_command(url, headers, payload))
        return
    try:
        response = requests.post(url, data=body, headers=headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        click.echo(f"receiver: {url} did not answer: {error}", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(f"{response.status_code} {response.reason}", err=True)
    click.echo(response.text.rstrip("\n"))
    # A redirect is none of GitHub's successes, and none of ours.
    if not 200 <= response.status_code < 300:
        sys.exit(EXIT_PROBLEMS)


def curl_command(url: str, headers: dict[str, str], payload: Path) -> str:
    """Return the command line that delivers the same; it can be pasted into a shell."""
    words = ["curl", "--silent", "--show-error", "--include", url]
    for name, value in headers.items():
        words += ["--header", f"{name}: {value}"]
    words += ["--data-binary", f"@{payload}"]
    return shlex.join(words)
