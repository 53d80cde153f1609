from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import run

pytestmark = pytest.mark.acceptance
SEED = 20261001
"""Always the same here, so that a failure is a change of ours; `make fuzz` takes another one each time."""


def test_twenty_thousand_generated_requests_make_no_5xx_no_uncaught_exception_and_no_growth(tmp_path: Path) -> None:
    report = run(tmp_path, seed=SEED, requests=20_000)
    assert report.failures == []
    assert sum(report.wire.seen.values()) > 14_000
    assert sum(report.inside.seen.values()) == 4_000
    # The generator still reaches every kind of answer.
    assert {200, 202, 400, 401, 404, 405, 415, 431, "closed"} <= set(report.wire.seen)
