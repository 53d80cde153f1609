"""What a test needs and this machine may lack: never left out in silence, and in CI not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

_ONLY_ROOT = "only root can "


def lacking(reason: str) -> NoReturn:
    """Skip the test with this reason, which the session's summary shows; where CI=true, fail it.

    For what can be installed or allowed. What an ordinary user cannot do at all is skipped by name in CI, too.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need_root(what: str) -> None:
    """Skip the test, naming `what` only root can do, when we are not root; the session's last lines say so."""
    if os.geteuid() != 0:
        pytest.skip(f"{_ONLY_ROOT}{what}")


def left_to_root(reasons: Iterable[str]) -> dict[str, int]:
    """Return what of these reasons only root could have done -> how many tests that left out."""
    return dict(Counter(reason.partition(_ONLY_ROOT)[2] for reason in reasons if _ONLY_ROOT in reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what did not run for want of root: no setting of CI can make up for it."""
    reports = terminalreporter.stats.get("skipped", [])
    if left := left_to_root(str(report.longrepr[2]) for report in reports if isinstance(report.longrepr, tuple)):
        terminalreporter.section("NOT TESTED, since only root can", sep="!", red=True, bold=True)
        for what, number in left.items():
            terminalreporter.line(f"{what}: {number} tests; run them as root")
