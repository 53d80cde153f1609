"""Reading what strace saw: which answers left before the disk had what they promise."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

TRACED = "write,writev,send,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync"
LONGEST_TEXT = 66_000  # bytes; one page of the database or one answer

_LINE = re.compile(r"(?P<thread>\d+)\s+(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>")
_DONE = re.compile(r"\) += (?P<result>-?\d+)")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: the line of the trace where it began, and the one where it had returned without an error (or None)."""

    name: str
    text: str
    began: int
    done: int | None


def read_calls(lines: Iterable[str]) -> list[Call]:
    """Return the calls of a trace by `strace -f`, in the order in which they began."""
    calls: dict[int, Call] = {}
    open_calls: dict[str, Call] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, rest = match["thread"], match["rest"]
        result = _DONE.search(rest)
        done = number if result is not None and int(result["result"]) >= 0 else None
        if _RESUMED.match(rest):
            if (call := open_calls.pop(thread, None)) is not None:
                calls[call.began] = Call(call.name, call.text, call.began, done)
        elif found := _CALL.match(rest):
            call = Call(found["name"], found["arguments"], number, done)
            calls[number] = call
            if rest.endswith("<unfinished ...>"):
                open_calls[thread] = call
    return [calls[number] for number in sorted(calls)]


def answers(calls: list[Call], guids: Iterable[str], *, status: int) -> dict[str, Call]:
    """Return the call that sent the answer with this status to each delivery."""
    sent = [call for call in calls if not call.name.startswith(("pwrite", "f")) and f"HTTP/1.1 {status}" in call.text]
    return {guid: call for guid in guids for call in sent if guid in call.text}


def uncovered(calls: list[Call], answered: dict[str, Call], *, wal: str) -> set[str]:
    """Return the deliveries whose answer began before a sync of the write-ahead log that began after their row was in it."""
    writes = [call for call in calls if call.name.startswith("pwrite") and wal in call.text]
    syncs = [call for call in calls if call.name in ("fsync", "fdatasync") and wal in call.text]
    bad = set()
    for guid, answer in answered.items():
        rows = [write.done for write in writes if guid in write.text and write.done is not None]
        covering = [
            sync
            for sync in syncs
            if rows and sync.began > rows[0] and sync.done is not None and sync.done < answer.began
        ]
        if not covering:
            bad.add(guid)
    return bad
