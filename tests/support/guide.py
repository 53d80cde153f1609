"""The commands of docs/install.md and docs/pipeline.md, taken from the document and run as somebody types them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.documents import ROOT, scripts

GUIDE = ROOT / "docs" / "install.md"
PIPELINE = ROOT / "docs" / "pipeline.md"


def step(heading: str, number: int, document: Path = GUIDE) -> str:
    """Return the commands of a section's block for a shell, counted from 0."""
    return [script.text for script in scripts(document) if script.heading == heading][number]


def filled_in(commands: str, values: Mapping[str, str]) -> str:
    """Write values of one's own where the document has examples, each of which has to be there."""
    for example, value in values.items():
        assert example in commands, f"the document does not say {example!r} here:\n{commands}"
        commands = commands.replace(example, value)
    return commands


def run(commands: str, *, folder: Path, environment: Mapping[str, str] | None = None, seconds: float = 300) -> str:
    """Run commands in a folder, in a shell that stops at the first failure, and return what they print."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout
