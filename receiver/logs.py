"""One line for each decision on standard error: JSON, or on a terminal something for people.

Texts that came from outside stand in quoted fields only, with everything escaped that a terminal or a collector of lines
could obey, so no branch name or commit title can forge a line.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from receiver.settings import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}
_PLAIN = "\x1b[0m"
_encode = json.JSONEncoder(default=str).encode
_FLUSH_SECONDS = 0.05
_QUOTED = frozenset(' "=')


class _GroupedHandler(logging.StreamHandler[TextIO]):
    """Makes and writes lines in groups: both cost a busy thread more, one at a time amid its own work, than many at once here.

    Lines wait 50 ms at most; errors, and all on a terminal, do not wait. A killed process loses that much of its log, and
    nothing of its journal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._records: list[logging.LogRecord] = []
        self._some = threading.Event()
        self._at_once = stream.isatty()
        threading.Thread(target=self._write_forever, name="log", daemon=True).start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
        if self._at_once or record.levelno >= logging.ERROR:
            self.flush()
        elif not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        with self.lock or threading.RLock():
            records, self._records = self._records, []
            lines = [line for record in records if (line := self._line(record))]
            # A full disk or a reader that went away must not take the program with it.
            with suppress(OSError, ValueError):
                if lines:
                    self.stream.write("\n".join(lines) + "\n")
                    self.stream.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception:  # noqa: BLE001 - as logging does: a bad record must not stop the program
            self.handleError(record)
            return ""

    def _write_forever(self) -> None:
        # Never ends, and asks nothing of logging's own shutdown: a library that sets up its loggers closes all handlers there
        # are, ours included, and they have to work on.
        while self._some.wait():
            time.sleep(_FLUSH_SECONDS)
            self._some.clear()
            self.flush()


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
        return _encode(line)


class _TextFormatter(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = f"{record.levelname.lower():7}"
        if self._coloured and record.levelname in _COLOURS:
            level = _COLOURS[record.levelname] + level + _PLAIN
        facts = " ".join(f"{name}={_shown(value)}" for name, value in _extras(record).items())
        line = f"{clock} {level} {_printable(record.getMessage())}{'  ' + facts if facts else ''}"
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
    # Nobody reads these, and to find the caller costs as much as the rest of a line
    # (https://docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    setattr(logging, "_srcfile", None)  # noqa: B010 - documented there, but unknown to mypy
    is_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    handler = _GroupedHandler(stream)
    handler.setFormatter(_TextFormatter(coloured=stream.isatty()) if is_text else _JsonFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # urllib3 warns of every retry and kubernetes logs whole bodies at debug; what matters is logged by our own adapters.
    for name in ("urllib3", "kubernetes", "_granian"):
        logging.getLogger(name).setLevel(logging.ERROR)
