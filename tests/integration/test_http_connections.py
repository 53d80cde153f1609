"""The HTTP contract on the wire: slow, cut off, odd and broken requests."""

from __future__ import annotations

import re
import socket

import pytest

from tests.support.deliveries import SIGNATURE, fence, signed
from tests.support.http import Delivery, connect, exchange, read_answer
from tests.support.public import FrontPlane, PublicPlane
from tests.support.signing import signature


def test_a_body_that_does_not_arrive_in_time_is_answered_408(front_plane: FrontPlane) -> None:
    delivery = signed()
    with connect(front_plane.port) as connection:
        connection.sendall(delivery.head() + delivery.body[:-1])
        answer = read_answer(connection)
    assert (answer.status, answer.json["error"]) == (408, "slow")


def test_a_client_that_hangs_up_in_the_middle_of_its_body_does_no_harm(front_plane: FrontPlane) -> None:
    delivery = signed()
    for content in (delivery.head(), delivery.head() + delivery.body[:-1], delivery.raw()):
        with connect(front_plane.port) as connection:
            connection.sendall(content)
    fence(front_plane)


def test_several_deliveries_share_one_connection(front_plane: FrontPlane) -> None:
    with connect(front_plane.port) as connection:
        for _ in range(3):
            connection.sendall(signed().raw().replace(b"Connection: close\r\n", b""))
            answer = read_answer(connection)
            assert answer.status == 202
            assert answer.headers.get("connection") != "close"


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(front_plane: FrontPlane) -> None:
    delivery = signed().with_headers(("Expect", "100-continue"))
    with connect(front_plane.port) as connection:
        connection.sendall(delivery.head())
        assert connection.recv(2**10).startswith(b"HTTP/1.1 100 ")
        connection.sendall(delivery.body)
        assert read_answer(connection).status == 202


BROKEN = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"POST /webhook\r\n\r\n",
    "two lengths": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a negative length": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a length that is no number": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\nx",
    "a bad chunk": b"POST /webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a folded header": b"POST /webhook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: sha256=\r\n abc\r\n\r\n",
    "a header without end": b"POST /webhook HTTP/1.1\r\nX-A: " + b"a" * 2**20,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_client_that_speaks_no_proper_http_never_makes_a_5xx(front_plane: FrontPlane, content: bytes) -> None:
    with connect(front_plane.port) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            got = connection.recv(2**16)
        except OSError:
            got = b""
    assert not got or re.match(rb"HTTP/1\.1 4\d\d ", got), got
    fence(front_plane)


def test_a_header_name_with_underscores_does_not_pass_for_the_real_one(front_plane: FrontPlane) -> None:
    delivery = signed()
    renamed = delivery.without(SIGNATURE).with_headers(("X_Hub_Signature_256", signature(delivery.body)))
    assert front_plane.deliver(renamed).status == 401
    renamed = delivery.without("X-GitHub-Event").with_headers(("X_GitHub_Event", "push"))
    assert front_plane.deliver(renamed).json["error"] == "event-header"


def test_an_odd_url_is_answered_404_in_json(front_plane: FrontPlane) -> None:
    for path in ("/", "/webhook/", "/webhook%00", "/%ff", "/w\xe9bhook", "/a/../webhook", "/WEBHOOK"):
        answer = exchange(front_plane.port, Delivery(method="GET", path=path))
        assert (path, answer.status) in ((path, 404), (path, 400))
        assert answer.status == 400 or answer.json["error"] == "not-found"


def test_a_query_after_the_path_is_of_no_matter(plane: PublicPlane) -> None:
    delivery = signed()
    queried = Delivery(delivery.body, delivery.headers, path="/webhook?a=%ff&b")
    assert plane.deliver(queried).status == 202
