"""The HTTP contract, 413: how much may be sent, and who hears that it was too much."""

from __future__ import annotations

import socket

import pytest

from tests.support.deliveries import LIMIT, Build, changed, signed
from tests.support.http import Delivery, connect, read_answer
from tests.support.public import FrontPlane, PublicPlane


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 30])
def test_a_content_length_over_the_limit_is_answered_413_before_anything_is_read(
    plane: PublicPlane, length: str
) -> None:
    answer = plane.deliver(Delivery(length=length))
    assert answer.status in ((413, 400) if length == "9" * 30 else (413,))
    assert answer.status == 400 or answer.json == {
        "error": "too-large",
        "detail": f"the body is longer than {LIMIT} bytes",
    }


def test_a_body_of_exactly_the_limit_is_read(plane: PublicPlane) -> None:
    content = b" " * (LIMIT - 2) + b"{}"
    assert plane.deliver(signed(content)).json["error"] == "payload"


def test_a_chunked_body_over_the_limit_is_answered_413_though_its_signature_is_right(plane: PublicPlane) -> None:
    content = b" " * (LIMIT - 1) + b"{}"
    chunks = tuple(content[start : start + 2**20] for start in range(0, len(content), 2**20))
    delivery = Delivery(headers=signed(content).headers, chunks=chunks)
    assert plane.deliver(delivery).json["error"] == "too-large"


def test_a_push_whose_bulk_is_not_in_its_lists_is_answered_413(plane: PublicPlane) -> None:
    answer = plane.deliver(changed(pusher={"name": "x" * 300_000}))
    assert (answer.status, answer.json["error"]) == (413, "too-large")


@pytest.mark.parametrize(
    ("build", "status"),
    [
        (lambda: Delivery(b"x" * LIMIT, signed(b"").headers), 401),
        (lambda: Delivery(b"x" * LIMIT), 401),
        (lambda: Delivery(b"x" * (LIMIT + 1)), 413),
        (lambda: Delivery(chunks=(b"x" * 2**20,) * 26, headers=signed(b"").headers), 413),
        (lambda: Delivery(b"x" * LIMIT, method="PUT"), 405),
        (lambda: Delivery(b"x" * LIMIT, path="/elsewhere"), 404),
        (lambda: Delivery(b"x" * LIMIT, path="/healthz"), 405),
    ],
    ids=["wrong", "unsigned", "too long", "too long in chunks", "PUT", "elsewhere", "health"],
)
def test_a_refused_client_reads_its_whole_answer_though_its_body_is_long(
    front_plane: FrontPlane, build: Build, status: int
) -> None:
    with connect(front_plane.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        connection.sendall(build().raw())
        answer = read_answer(connection)
        assert answer.status == status
        assert answer.json["error"]
        # The connection ends in order: a reset would be an exception here.
        assert connection.recv(1) == b""
