"""What a run has seen, and the marks by which a process that grows is known."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from pathlib import Path

_MOST_FAILURES = 20


@dataclass
class Tally:
    """Counts of what happened under some key (a status, a kind of error), and what should not have happened."""

    seen: collections.Counter[object] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        """Note a failure."""
        self.failures.append(what)

    @property
    def has_seen_enough(self) -> bool:
        """Whether more failures would tell nothing new."""
        return len(self.failures) >= _MOST_FAILURES

    def __str__(self) -> str:
        return ", ".join(f"{key}: {count:,}" for key, count in sorted(self.seen.items(), key=str))


@dataclass(frozen=True)
class Size:
    """How big a process is: resident memory in MB, open files, threads."""

    memory: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Size:
        """Measure a running process."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        )
        return cls(
            int(status["VmRSS"].split()[0]) / 1_024,
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
            int(status["Threads"]),
        )

    def __str__(self) -> str:
        return f"{self.memory:.0f} MB, {self.files} files, {self.threads} threads"
