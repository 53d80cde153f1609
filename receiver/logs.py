"""One line for each decision on standard error: JSON, or on a terminal something for people.

Texts that came from outside stand in quoted fields only, with everything escaped that a terminal or a collector of lines
could obey, so no branch name or commit title can forge a line.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from receiver.settings import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}
_PLAIN = "\x1b[0m"
_QUOTED = frozenset(' "=')


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII alone: U+2028 and its like end lines for some readers, and no lone surrogate can make a line fail.
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = f"{record.levelname.lower():7}"
        if self._coloured and record.levelname in _COLOURS:
            level = _COLOURS[record.levelname] + level + _PLAIN
        facts = " ".join(f"{name}={_shown(value)}" for name, value in _extras(record).items())
        line = f"{time} {level} {_printable(record.getMessage())}{'  ' + facts if facts else ''}"
        if not record.exc_info:
            return line
        # Indented, since the text of an exception may hold newlines of somebody else's choice.
        trace = (f"    {_printable(text)}" for text in self.formatException(record.exc_info).splitlines())
        return "\n".join((line, *trace))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value not in (None, "")}


def _shown(value: Any) -> str:
    text = str(value)
    plain = text.isascii() and text.isprintable() and not _QUOTED.intersection(text)
    return text if plain else _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def set_up_logging(settings: LogSettings, *, stream: TextIO = sys.stderr) -> None:
    """Send all log lines to `stream`, in the configured form; `auto` is text on a terminal and JSON elsewhere."""
    is_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextFormatter(coloured=stream.isatty()) if is_text else _JsonFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # urllib3 warns of every retry and kubernetes logs whole bodies at debug; what matters is logged by our own adapters.
    for name in ("urllib3", "kubernetes", "_granian"):
        logging.getLogger(name).setLevel(logging.ERROR)
