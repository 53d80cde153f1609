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
    wired, called, lists = (sum(tally.seen.values()) for tally in (report.wire, report.inside, report.patterns))
    assert wired > 3 * called > 0
    assert wired + called >= 20_000, "the patterns come on top"
    assert lists > 2_000
    # The generator still reaches every kind of answer.
    assert {200, 202, 400, 401, 404, 405, 415, 431, "closed"} <= set(report.wire.seen)
