"""The HTTP contract, the order of the checks: which of several refusals is the answer."""

from __future__ import annotations

import pytest

from tests.integration.conftest import OTHER_SECRET
from tests.support.deliveries import LIMIT, SIGNATURE, Build, signed
from tests.support.http import Delivery, connect, read_answer
from tests.support.public import FrontPlane, PublicPlane

HUGE = str(LIMIT + 1)
ORDER: dict[str, tuple[Build, int]] = {
    "method before length": (lambda: Delivery(method="PUT", length=HUGE), 405),
    "length before signature": (lambda: Delivery(length=HUGE), 413),
    "signature before media type": (
        lambda: signed(secret="guessed").with_headers(("Content-Type", "text/plain")),
        401,
    ),
    "signature before headers": (lambda: signed(secret="guessed").without("X-GitHub-Event"), 401),
    "media type before JSON": (lambda: signed(b"x").with_headers(("Content-Type", "text/plain")), 415),
    "decoding before the repository's secret": (lambda: signed(b"x", secret=OTHER_SECRET), 400),
    "a good ref before the repository's secret": (lambda: signed(ref="refs/heads/a..b", secret=OTHER_SECRET), 400),
    "the repository's secret before the filters": (
        lambda: signed(ref="refs/heads/private/x", secret=OTHER_SECRET),
        401,
    ),
    "the repository's secret before the params": (lambda: signed(message="$(x)", secret=OTHER_SECRET), 401),
    "the filters before the params": (lambda: signed(ref="refs/heads/private/$(x)"), 200),
    "the filters before the age": (lambda: signed(ref="refs/heads/private/x", pushed_at=1), 200),
}


@pytest.mark.parametrize(("build", "status"), ORDER.values(), ids=ORDER.keys())
def test_the_checks_have_the_order_of_the_design(plane: PublicPlane, build: Build, status: int) -> None:
    assert plane.deliver(build()).status == status


def test_the_signature_header_is_checked_before_the_body_is_awaited(front_plane: FrontPlane) -> None:
    with connect(front_plane.port) as connection:
        connection.sendall(signed().with_headers((SIGNATURE, "sha256=x")).head())
        assert read_answer(connection).status == 401


def test_the_media_type_of_a_good_signature_is_checked_after_the_body(front_plane: FrontPlane) -> None:
    delivery = signed().with_headers(("Content-Type", "text/plain"))
    with connect(front_plane.port) as connection:
        connection.sendall(delivery.head())
        connection.sendall(delivery.body)
        assert read_answer(connection).status == 415
