"""What a test needs and this machine may lack: never left out in silence, and in CI not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

_NOT_TESTED, _ONLY_ROOT = "NOT TESTED ", "only root can "


def lacking(reason: str, *, untested: str = "") -> NoReturn:
    """Skip the test with this reason, which the session's summary shows; where CI=true, fail it.

    For what can be installed or allowed. What an ordinary user cannot do at all is skipped by name in CI, too. `untested` says
    what whole kind of tests that leaves out ("on a real API server"); the session's last lines repeat it.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"{_NOT_TESTED}{untested}: {reason}" if untested else reason)


def beside_the_checkout(path: Path, what: str) -> pytest.MarkDecorator:
    """Mark tests that read what may lie beside the checkout and is not ours to bring; where it is not, the last lines say so."""
    there = path.is_file() or (path.is_dir() and any(path.iterdir()))
    return pytest.mark.skipif(not there, reason=f"{_NOT_TESTED}with {what}: there is no {path}")


def need_root(what: str) -> None:
    """Skip the test, naming `what` only root can do, when we are not root; the session's last lines say so."""
    if os.geteuid() != 0:
        pytest.skip(f"{_ONLY_ROOT}{what}")


def left_to_root(reasons: Iterable[str]) -> dict[str, int]:
    """Return what of these reasons only root could have done -> how many tests that left out."""
    return dict(Counter(reason.partition(_ONLY_ROOT)[2] for reason in reasons if _ONLY_ROOT in reason))


def left_out(reasons: Iterable[str]) -> dict[str, str]:
    """Return what whole kinds of tests were left out -> why."""
    found = (reason.partition(_NOT_TESTED)[2].partition(": ") for reason in reasons if _NOT_TESTED in reason)
    return {untested: why for untested, _, why in found}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which kinds of tests did not run, and what did not for want of root: no setting of CI can make up for that.

    From the reports, since these are what comes here from the processes that ran the tests.
    """
    reports = terminalreporter.stats.get("skipped", [])
    reasons = [str(report.longrepr[2]) for report in reports if isinstance(report.longrepr, tuple)]
    for untested, why in left_out(reasons).items():
        terminalreporter.section(f"{_NOT_TESTED}{untested}", sep="!", red=True, bold=True)
        terminalreporter.line(why)
    if left := left_to_root(reasons):
        terminalreporter.section("NOT TESTED, since only root can", sep="!", red=True, bold=True)
        for what, number in left.items():
            terminalreporter.line(f"{what}: {number} tests; run them as root")
