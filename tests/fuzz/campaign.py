"""A whole run of the fuzzer: the real front, the application, the patterns; then the looks at what is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.client import send_many
from tests.fuzz.inside import call_many, match_many
from tests.fuzz.tally import Size, Tally
from tests.support.folders import trigger, write_folder
from tests.support.http import Delivery
from tests.support.public import FrontPlane
from tests.support.pushes import encoded, push_payload
from tests.support.signing import delivery_headers

_GROWTH_MB = 40.0
_GROWTH_FILES = 8
_GROWTH_THREADS = 4
_TRACES = ("Traceback", "request failed", '"level": "error"', "panicked")
_ON = {"push": {"branches": ["**", "!gh-readonly-queue/**"], "tags": ["v*"]}}
_PATHS = {"push": {"branches-ignore": ["x*"], "paths": ["**/*.py", "!docs/**"]}}
_TRIGGERS = [
    trigger("all", on=_ON, params={"revision": "head_sha", "branch": {"from": "branch", "default": ""}}),
    trigger("some", on=_PATHS, params={"revision": "head_sha", "title": {"from": "title", "default": ""}}),
    trigger("other", repository="octo/other", secrets=["bound"]),
]


@dataclass
class Report:
    """What came of it. Memory is compared with what it was after the first tenth of the requests."""

    seed: int
    wire: Tally = field(default_factory=Tally)
    inside: Tally = field(default_factory=Tally)
    patterns: Tally = field(default_factory=Tally)
    requests: int = 0
    seconds: float = 0.0
    sizes: list[Size] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """All that should not have happened."""
        return self.wire.failures + self.inside.failures + self.patterns.failures

    def __str__(self) -> str:
        return "\n".join(
            (
                f"seed {self.seed}: {self.requests:,} requests, and patterns on top, in {self.seconds:,.0f} s",
                f"  real front   {sum(self.wire.seen.values()):,} answers ({self.wire})",
                f"  application  {sum(self.inside.seen.values()):,} answers ({self.inside})",
                f"  patterns     {sum(self.patterns.seen.values()):,} ({self.patterns})",
                *(
                    f"  process      {when}: {size}"
                    for when, size in zip(("after a tenth", "at the end"), self.sizes, strict=False)
                ),
                *(f"FAILED {failure}" for failure in self.failures),
            )
        )


def run(folder: Path, *, seed: int, requests: int, connections: int = 8, say: Callable[[str], None] = print) -> Report:
    """Send `requests`, seven of nine to `receiver serve` and the others to the application; then try a ninth as many patterns."""
    report = Report(seed)
    began = time.monotonic()
    sections: dict[str, Any] = {"serve": {"metrics_listen": None}, "log": {"format": "json"}}
    secrets = {"github": "It's a Secret to Everybody", "bound": "another secret"}
    config = write_folder(folder / "front", triggers=_TRIGGERS, secrets=secrets, **sections)
    wired = requests * 7 // 9
    called = requests - wired
    front = FrontPlane(config, {})
    try:
        _send(front, report, wired, connections, say)
    finally:
        code = front.close()
    if code:
        report.wire.fail(f"the front ended with {code}")
    _look_at_log(front, report)
    say(f"[fuzz] {called:,} deliveries to the application alone")
    inside = write_folder(folder / "inside", triggers=_TRIGGERS, secrets=secrets, **sections)
    call_many(inside, seed=seed, requests=called, tally=report.inside)
    lists = max(1, requests // 9)
    say(f"[fuzz] {lists:,} lists of patterns")
    match_many(seed=seed, patterns=lists, tally=report.patterns)
    report.requests = requests
    report.seconds = time.monotonic() - began
    return report


def _send(front: FrontPlane, report: Report, requests: int, connections: int, say: Callable[[str], None]) -> None:
    pid = front.process.pid
    say(f"[fuzz] {requests:,} requests to the real front")
    done = 0
    began = time.monotonic()
    for tenth in range(10):
        count = requests * (tenth + 1) // 10 - done
        send_many(front.port, seed=report.seed * 10 + tenth, requests=count, connections=connections, tally=report.wire)
        done += count
        size = Size.of(pid)
        say(f"[fuzz] {done:,} of {requests:,}, {done / (time.monotonic() - began):,.0f}/s; {size}")
        if tenth == 0:
            report.sizes.append(size)
        if report.wire.has_seen_enough:
            break
    body = encoded(push_payload())
    last = front.deliver(Delivery(body, tuple(delivery_headers(body).items())))
    if last.status != 202:
        report.wire.fail(f"a push after all that is answered {last.status}: {last.body!r}")
    before, after = report.sizes[0], Size.of(pid)
    report.sizes.append(after)
    if (
        after.memory - before.memory > _GROWTH_MB
        or after.files - before.files > _GROWTH_FILES
        or after.threads - before.threads > _GROWTH_THREADS
    ):
        report.wire.fail(f"the process grew: {before}, then {after}")


def _look_at_log(front: FrontPlane, report: Report) -> None:
    with front.log_file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if any(trace in line for trace in _TRACES):
                report.wire.fail(f"in the log: {line[:2_000]}")
            if report.wire.has_seen_enough:
                return
