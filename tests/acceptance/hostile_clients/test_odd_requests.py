"""Requests that could be read in two ways, and other oddities of HTTP: there is one answer, and nothing is smuggled."""

from __future__ import annotations

import re
import socket

import pytest

from tests.acceptance.hostile_clients.attacked import FORGED, answered, push
from tests.support.http import Delivery, connect
from tests.support.planes import Planes

pytestmark = pytest.mark.acceptance
HEAD = b"POST /webhook HTTP/1.1\r\nHost: a\r\n"
UNREADABLE = {
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a folded header": HEAD + b"X-A: a\r\n b\r\n\r\n",
    "a blank before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "chunked, then more": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "something like chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "hidden chunked": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /webhook HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
    "a zero byte": HEAD + b"X-A: a\0b\r\n\r\n",
    "a path that is no text": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
}


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    got = b""
    try:
        while part := connection.recv(65_536):
            got += part
    except ConnectionResetError:
        pass
    return got


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_could_be_read_in_two_ways_is_answered_400_and_ends_the_connection(planes: Planes, content: bytes) -> None:
    with connect(planes.port) as connection:
        connection.sendall(content + push().raw())
        answer = everything(connection)
    assert re.findall(rb"HTTP/1\.[01] (\d+)", answer) == [b"400"]


def test_chunks_win_over_a_length_and_what_follows_is_not_read(planes: Planes) -> None:
    delivery = push()
    head = delivery.without("Connection").head().replace(b"Connection: close\r\n", b"")
    head = head.replace(b"Content-Length: %d" % len(delivery.body), b"Content-Length: 3\r\nTransfer-Encoding: chunked")
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(delivery.body), delivery.body)
    with connect(planes.port) as connection:
        connection.sendall(head + chunk + push().raw())
        answer = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"202"]


BAD_CHUNKS = {
    "no size": b"zz\r\nabc\r\n",
    "a negative size": b"-1\r\nabc\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n",
    "a size beyond all": b"F" * 20 + b"\r\nabc\r\n",
    "an endless extension": b"3;" + b"a" * 100_000 + b"\r\nabc\r\n",
    "more than its size": b"3\r\nabcdef\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_bad_chunk_is_a_body_that_nobody_signed(planes: Planes, chunks: bytes) -> None:
    head = HEAD + f"X-Hub-Signature-256: {FORGED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connect(planes.port) as connection:
        connection.sendall(head + chunks + b"0\r\n\r\n" + push().raw())
        answer = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"401"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("//webhook", 202),
        ("/%77ebhook", 202),
        ("http://other.example/webhook", 202),
        ("/webhook?x=1", 202),
        ("/webhook/", 404),
        ("/webhook%2f", 404),
        ("/WEBHOOK", 404),
        ("/./webhook", 404),
        ("/%ff%00", 404),
        ("*", 404),
    ],
)
def test_the_path_is_taken_as_it_is_written_in_all_its_forms(planes: Planes, target: str, status: int) -> None:
    delivery = push()
    delivery = Delivery(delivery.body, delivery.headers, path=target)
    assert answered(planes, delivery)[0] == status


@pytest.mark.parametrize(
    ("headers", "status"), [((("X-Long", "a" * 20_000),), 202), ((("X-Long", "a" * 100_000),), 431)]
)
def test_a_head_of_more_than_32_kilobytes_is_answered_431(
    planes: Planes, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    with connect(planes.port) as connection:
        connection.sendall(push().with_headers(*headers).raw())
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_pipelined_pushes_are_answered_one_by_one_in_their_order(planes: Planes) -> None:
    deliveries = [push() for _ in range(20)]
    content = b"".join(delivery.raw().replace(b"Connection: close\r\n", b"") for delivery in deliveries[:-1])
    with connect(planes.port) as connection:
        connection.sendall(content + deliveries[-1].raw())
        answer = everything(connection).decode()
    asked = [dict(delivery.headers)["X-GitHub-Delivery"] for delivery in deliveries]
    assert re.findall(r'"delivery":"([^"]+)"', answer) == asked
