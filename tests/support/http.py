"""HTTP/1.1 over a plain socket: what a library would tidy up can be sent as it is."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, which has to be one line of JSON."""
        assert self.headers["content-type"] == "application/json", self
        assert self.body.endswith(b"\n"), self
        assert self.body.count(b"\n") == 1, self
        value = json.loads(self.body)
        assert isinstance(value, dict), self
        return value


@dataclass(frozen=True)
class Delivery:
    """A request. `length` is Content-Length: the body's own unless given; with `chunks` the body is sent in chunks instead."""

    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    path: str = "/webhook"
    length: str | None = None
    chunks: tuple[bytes, ...] = field(default=(), repr=False)

    def with_headers(self, *headers: tuple[str, str]) -> Delivery:
        """Return the same with these headers in place of those of the same names."""
        names = {name.lower() for name, _ in headers}
        kept = tuple(header for header in self.headers if header[0].lower() not in names)
        return Delivery(self.body, (*kept, *headers), self.method, self.path, self.length, self.chunks)

    def without(self, *names: str) -> Delivery:
        """Return the same without these headers."""
        gone = {name.lower() for name in names}
        kept = tuple(header for header in self.headers if header[0].lower() not in gone)
        return Delivery(self.body, kept, self.method, self.path, self.length, self.chunks)

    def head(self) -> bytes:
        """Return the request up to its body. Header values are sent as Latin-1, so any byte can be asked for."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: receiver.example", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunks:
            lines.append("Transfer-Encoding: chunked")
        elif self.body or self.length is not None or self.method == "POST":
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def raw(self) -> bytes:
        """Return the whole request."""
        if not self.chunks:
            return self.head() + self.body
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in self.chunks)
        return self.head() + framed + b"0\r\n\r\n"


def connect(port: int, *, timeout_seconds: float = 20.0) -> socket.socket:
    """Return a connection to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)


def read_answer(connection: socket.socket, *, method: str = "POST") -> Answer:
    """Read one answer; raises http.client.HTTPException or OSError when it does not come whole."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    body = response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def exchange(port: int, delivery: Delivery) -> Answer:
    """Send all of a request, then read the answer."""
    with connect(port) as connection:
        connection.sendall(delivery.raw())
        return read_answer(connection, method=delivery.method)
