"""`python -m tests.fuzz --requests 1000000`: exits with 1 when anything failed, and says how to repeat it."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run that had the same number of requests")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="receiver-fuzz-") as folder:
        report = run(Path(folder), seed=seed, requests=options.requests, connections=options.connections, say=_say)
    _say(str(report))
    if report.failures:
        _say(f"repeat: python -m tests.fuzz --requests {options.requests} --seed {seed}")
        sys.exit(1)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a program


main()
