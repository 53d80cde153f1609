"""When to try again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from receiver.core.retry import retry_delay

CHANCE = st.floats(0, 1, exclude_max=True)


@given(attempt=st.integers(1, 10_000), random=CHANCE)
def test_a_delay_is_positive_and_at_most_a_minute(attempt: int, random: float) -> None:
    assert 0 < retry_delay(attempt, random=random) <= 60


@given(attempt=st.integers(1, 100), random=CHANCE, asked=st.floats(0, 1_000))
def test_what_the_server_asked_for_is_never_undercut(attempt: int, random: float, asked: float) -> None:
    assert retry_delay(attempt, random=random, retry_after_seconds=asked) >= asked


@given(attempt=st.integers(1, 100), asked=st.floats(0, 1_000))
def test_jobs_that_were_asked_to_wait_as_long_do_not_all_come_back_at_once(attempt: int, asked: float) -> None:
    delays = [retry_delay(attempt, random=each / 10, retry_after_seconds=asked) for each in range(10)]
    assert all(later - earlier > 0.05 for earlier, later in pairwise(delays))


@given(attempt=st.integers(1, 100), random=CHANCE)
def test_delays_grow_with_the_attempts_and_spread_with_chance(attempt: int, random: float) -> None:
    assert retry_delay(attempt, random=random) <= retry_delay(attempt + 1, random=random)
    assert retry_delay(attempt, random=0.999) > 9 * retry_delay(attempt, random=0)
