"""What a test needs and this machine may lack: never left out in silence, and in CI not at all."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test with this reason, which the session's summary shows; where CI=true, fail it.

    For what can be installed or allowed. What an ordinary user cannot do at all is skipped by name in CI, too.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need_root(what: str) -> None:
    """Skip the test, naming `what` only root can do, when we are not root."""
    if os.geteuid() != 0:
        pytest.skip(f"only root can {what}")
