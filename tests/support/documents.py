"""The documents as tests read them: blocks of code with the section that they stand in, and the commands in all kinds of code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = "sh"

_HEADING_OR_BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN_OR_INDENTED = re.compile(r"`([^`\n]+)`|^(?: {4}|\$ )(.+)$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<'(\w+)'\n.*?^\1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the heading above it, its language (empty: none given), and its lines without their indentation."""

    heading: str
    language: str
    text: str


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in lists too."""
    found, heading = [], ""
    for match in _HEADING_OR_BLOCK.finditer(document.read_text()):
        if match["heading"]:
            heading = match["heading"]
        else:
            found.append(Block(heading, match["language"], textwrap.dedent(match["text"])))
    return found


def scripts(document: Path) -> list[Block]:
    """Return the fenced blocks that are for a shell."""
    return [block for block in blocks(document) if block.language == SHELL]


def snippets(document: Path) -> Iterator[str]:
    """Yield the code outside fenced blocks, and what such a block types after a `$`."""
    for span, indented in _SPAN_OR_INDENTED.findall(document.read_text()):
        yield span or indented


def script_lines(document: Path) -> Iterator[str]:
    """Yield the lines of the blocks for a shell, continued ones as one, without here-documents."""
    for script in scripts(document):
        yield from _HERE_DOCUMENT.sub("", script.text.replace("\\\n", " ")).splitlines()
