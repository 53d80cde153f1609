"""What attempts on several threads tell each other of the cluster."""

from __future__ import annotations

import pytest

from receiver.errors import OutageError
from receiver.work.availability import Availability
from tests.support.journals import NOW


class Attempts:
    """An availability with a clock, and how often the cluster came back."""

    def __init__(self) -> None:
        self.now = NOW
        self.returns = 0
        self.availability = Availability(clock=lambda: self.now, returned=self._returned)

    def _returned(self) -> None:
        self.returns += 1


@pytest.fixture
def attempts() -> Attempts:
    return Attempts()


def test_why_the_cluster_is_away_is_told_as_long_as_it_is(attempts: Attempts) -> None:
    availability = attempts.availability
    assert (availability.is_away, availability.why_away()) == (False, None)
    for problem in ("no route", "no answer"):
        availability.lost(OutageError(problem))
        assert (availability.is_away, availability.why_away()) == (True, problem)
    availability.answered()
    assert (availability.is_away, availability.why_away()) == (False, None)


def test_that_the_cluster_answers_again_is_told_once_for_each_outage(attempts: Attempts) -> None:
    availability = attempts.availability
    availability.answered()
    assert attempts.returns == 0
    for outage in (1, 2):
        availability.lost(OutageError("away"))
        availability.answered(7)
        availability.answered(8)
        assert attempts.returns == outage


def test_while_the_cluster_is_away_one_asks_for_all_and_only_within_its_own_bound(attempts: Attempts) -> None:
    availability = attempts.availability
    assert availability.allowance(busy=3, most=16, most_while_away=2) == (13, False)
    lost_at = availability.lost(OutageError("away"))
    assert lost_at == NOW
    assert availability.allowance(busy=0, most=16, most_while_away=2) == (0, False)
    attempts.now += 2
    assert availability.allowance(busy=2, most=16, most_while_away=2) == (0, False)
    assert availability.allowance(busy=1, most=16, most_while_away=2) == (1, True)
    # Until the answer comes, or the next question is due, nobody else asks.
    assert availability.allowance(busy=1, most=16, most_while_away=2) == (0, False)
    seconds = availability.seconds_to_probe()
    assert seconds is not None
    assert 0.5 <= seconds <= 1.5


def test_what_the_api_server_asks_to_wait_is_heeded(attempts: Attempts) -> None:
    attempts.availability.lost(OutageError("busy", retry_after_seconds=4.0))
    assert attempts.availability.seconds_to_probe() == pytest.approx(4.0)


def test_a_job_that_is_alone_in_its_trouble_is_told_from_an_outage_until_it_is_answered(attempts: Attempts) -> None:
    availability = attempts.availability
    for _ in range(2):
        assert not availability.fails_alone(7)
        availability.answered(8, made_since=availability.moment())
    assert availability.fails_alone(7)
    availability.forget(7)
    assert not availability.fails_alone(7)
