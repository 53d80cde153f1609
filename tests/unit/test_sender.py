"""How long a sender of the tests in a cluster was refused."""

from __future__ import annotations

import pytest

from tests.e2e_receiver.installation import Answer
from tests.e2e_receiver.sender import Sent, refused_seconds


def sent(*pushes: tuple[float, int], answer_seconds: float = 0.5) -> list[Sent]:
    """Return pushes by the time that each was sent at and the status of its answer."""
    return [Sent(at, at + answer_seconds, Answer(status, {})) for at, status in pushes]


@pytest.mark.parametrize(
    ("pushes", "seconds"),
    [
        ([], 0),
        ([(1, 202), (2, 202)], 0),
        ([(1, 202), (2, 0), (3, 503), (5, 202)], 3),
        ([(1, 0), (2, 202), (3, 202), (4, 503), (8, 202)], 5),
        ([(1, 202), (2, 0)], 0.5),
        ([(1, 0), (2, 202), (4, 0), (6, 0)], 3.5),
    ],
)
def test_all_gaps_count_from_the_first_refusal_to_the_next_acceptance(
    pushes: list[tuple[float, int]], seconds: float
) -> None:
    assert refused_seconds(sent(*pushes)) == seconds


def test_a_connection_that_hangs_counts_in_full() -> None:
    assert refused_seconds(sent((1, 202), (2, 0), answer_seconds=10)) == 10
