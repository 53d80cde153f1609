"""What all subcommands share."""

import math

import pytest

from receiver.cli.common import shown_time


@pytest.mark.parametrize("odd", [None, math.inf, -math.inf, math.nan, 1e18, -1e18])
def test_what_is_no_time_is_shown_as_none(odd: float | None) -> None:
    assert shown_time(odd) == "-"


def test_a_time_is_shown_in_utc_to_the_second() -> None:
    assert shown_time(1_790_000_000.9) == "2026-09-21T14:13:20Z"
