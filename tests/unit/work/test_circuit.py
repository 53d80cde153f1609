"""One circuit for a cluster: all wait together, one asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.work.circuit import Circuit

NOW = 1_000.0


def opened(*, random: float = 0.5, retry_after_seconds: float | None = None) -> Circuit:
    circuit = Circuit()
    circuit.failed(now=NOW, random=random, retry_after_seconds=retry_after_seconds)
    return circuit


@pytest.mark.parametrize(("busy", "allowed"), [(0, 8), (3, 5), (8, 0), (11, 0)])
def test_while_the_cluster_answers_as_many_may_be_tried_as_there_is_room_for(busy: int, allowed: int) -> None:
    assert Circuit().allowance(now=NOW, busy=busy, most=8) == allowed


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
def test_while_it_is_away_one_may_ask_after_about_a_second(random: float, seconds: float) -> None:
    circuit = opened(random=random)
    assert circuit.is_open
    assert circuit.seconds_to_probe(now=NOW) == pytest.approx(seconds)
    assert circuit.allowance(now=NOW + seconds - 0.01, busy=0, most=8) == 0
    assert circuit.allowance(now=NOW + seconds + 0.01, busy=0, most=8) == 1
    assert circuit.allowance(now=NOW + seconds + 0.01, busy=8, most=8) == 0


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
def test_while_one_asks_and_gets_no_answer_the_next_may_ask_after_about_a_second(random: float, seconds: float) -> None:
    circuit = opened()
    later = NOW + 60
    circuit.probing(now=later, random=random)
    assert circuit.allowance(now=later + seconds - 0.01, busy=1, most=8) == 0
    assert circuit.allowance(now=later + seconds + 0.01, busy=1, most=8) == 1


def test_only_the_first_failure_and_the_first_answer_are_news() -> None:
    circuit = Circuit()
    assert circuit.failed(now=NOW, random=0.5)
    assert not circuit.failed(now=NOW + 1, random=0.5)
    assert circuit.is_open
    assert circuit.answered()
    assert not circuit.answered()
    assert (circuit.is_open, circuit.seconds_to_probe(now=NOW)) == (False, None)


@pytest.mark.parametrize(("asked", "seconds"), [(3.0, 3.0), (0.2, 1.0), (3_600.0, 5.0)])
def test_what_the_server_asks_for_is_heeded_up_to_five_seconds(asked: float, seconds: float) -> None:
    assert opened(retry_after_seconds=asked).seconds_to_probe(now=NOW) == pytest.approx(seconds)


def test_a_clock_that_was_set_back_does_not_put_the_next_question_off() -> None:
    circuit = opened()
    assert circuit.seconds_to_probe(now=NOW - 3_600) == 0.0
    assert circuit.allowance(now=NOW - 3_600, busy=0, most=8) == 1


@given(
    events=st.lists(
        st.tuples(st.floats(-1e5, 1e5), st.booleans(), st.floats(0, 0.99), st.none() | st.floats(0, 1e5)), max_size=20
    )
)
def test_whatever_happens_the_next_question_is_never_more_than_five_seconds_away(
    events: list[tuple[float, bool, float, float | None]],
) -> None:
    circuit, now = Circuit(), NOW
    for passed, good, random, asked in events:
        now += passed
        if good:
            circuit.answered()
        else:
            circuit.failed(now=now, random=random, retry_after_seconds=asked)
        wait = circuit.seconds_to_probe(now=now)
        assert wait is None or 0 <= wait <= 5.0
        assert circuit.allowance(now=now + 5.001, busy=0, most=4) in (1, 4)
