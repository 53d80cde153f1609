"""Requests as bytes: what is asked, how it is framed, and which answers would be right."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

from tests.fuzz import pushes
from tests.support.signing import SECRET, sha1_signature, signature

ANSWERS = frozenset({200, 202, 400, 401, 404, 405, 413, 415})
"""What the documentation of the webhook lists, without 503 and 408: the journal is whole, and nobody here is slow."""
ANSWERS_OF_HTTP = ANSWERS | {414, 431}
"""What may come besides when a request is none: answered below the receiver."""
_METHODS = ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW", "post", "P" * 50)
_PATHS = (
    b"/",
    b"/healthz",
    b"/readyz",
    b"//webhook",
    b"//readyz",
    b"/webhook/",
    b"/webhook?a=b&c",
    b"/%77ebhook",
    b"/webhook%2f..",
    b"/%ff%00",
    b"/\xc3\xa9",
    b"/..%2f..%2fetc/passwd",
    b"/" + b"a" * 3_000,
    b"http://evil.example/webhook",
    b"*",
)
_ODD_HEADERS = (
    b"X-GitHub-Event: push",
    b"x-github-event: pull_request",
    b"X-GitHub-Event: \xe9",
    b"X_GitHub_Event: push",
    b"X-GitHub-Delivery: not-a-guid",
    b"X-GitHub-Hook-ID: " + b"9" * 40,
    b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=utf-16",
    b"Content-Type: \xff",
    b"Content-Encoding: gzip",
    b"X-Hub-Signature-256: sha256=" + b"0" * 64,
    b"X-Hub-Signature-256: ",
    b"X-Hub-Signature-256: \xff\xfe",
    b"Cookie: session=" + b"x" * 2_000,
    b"Host: other.example",
    b"Accept-Encoding: " + b"gzip, " * 100,
    b"Upgrade: h2c",
    b"Range: bytes=0-1",
    b"Forwarded: for=_evil",
    b"X-Forwarded-Prefix: /evil",
    b"X-Original-URL: /healthz",
    b"Content-MD5: " + b"\x80" * 100,
    b"If-None-Match: *",
)


@dataclass(frozen=True)
class Case:
    """One request. `pieces` are written one after the other; `allowed` are the statuses that would be right.

    `keeps` tells that one answer has to come and that the connection may go on; otherwise the client stops sending
    and reads whatever there is. `guid` has to stand in an answer that names a delivery.
    """

    pieces: tuple[bytes, ...]
    allowed: frozenset[int]
    keeps: bool
    guid: str
    has_body: bool = True


def case(chance: random.Random) -> Case:
    """Return any request."""
    body = pushes.body(chance)
    form = chance.random() < 0.15
    if form:
        body = pushes.form(chance, body)
    guid = str(uuid.UUID(int=chance.getrandbits(128)))
    lines, allowed = _headers(chance, body, guid, form=form)
    method, path = "POST", b"/webhook"
    if chance.random() < 0.06:
        method, allowed = chance.choice(_METHODS), ANSWERS - {202}
    if chance.random() < 0.08:
        path, allowed = chance.choice(_PATHS), ANSWERS
    framed, keeps = _framed(chance, lines, body)
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method.encode(), path), *lines])
    raw = head + framed
    if chance.random() < 0.03:
        raw, keeps, allowed = _broken(chance, raw), False, ANSWERS_OF_HTTP
    if not keeps:
        allowed |= ANSWERS_OF_HTTP - {200, 202}
    return Case(_pieces(chance, raw), allowed, keeps, guid, has_body=method != "HEAD")


def _headers(chance: random.Random, body: bytes, guid: str, *, form: bool) -> tuple[list[bytes], frozenset[int]]:
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    event = "push" if chance.random() < 0.93 else chance.choice(("ping", "issues", "PUSH", "", "a" * 100))
    lines = [
        b"Host: receiver.example",
        f"Content-Type: {kind}".encode(),
        f"X-GitHub-Event: {event}".encode(),
        f"X-GitHub-Delivery: {guid}".encode(),
        b"X-GitHub-Hook-ID: 30",
    ]
    allowed = ANSWERS
    proof = chance.random()
    if proof < 0.7:
        lines.append(b"X-Hub-Signature-256: " + signature(body).encode())
    else:
        # Whatever else is wrong with it: what is not signed starts nothing.
        allowed = ANSWERS - {200, 202}
        if proof < 0.8:
            lines.append(b"X-Hub-Signature-256: " + signature(body + b" ").encode())
        elif proof < 0.85:
            lines.append(b"X-Hub-Signature-256: " + signature(body, SECRET + " ").encode())
        elif proof < 0.9:
            lines.append(b"X-Hub-Signature: " + sha1_signature(body).encode())
        elif proof < 0.95:
            lines.append(b"X-Hub-Signature-256: " + signature(body).upper().encode())
    for _ in range(chance.choice((0, 0, 0, 0, 1, 2, 30))):
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(_ODD_HEADERS))
    if chance.random() < 0.05:
        del lines[chance.randrange(1, len(lines))]
    if chance.random() < 0.02:
        lines.append(b"X-Long: " + b"y" * chance.choice((5_000, 40_000)))
    return lines, allowed


def _framed(chance: random.Random, lines: list[bytes], body: bytes) -> tuple[bytes, bool]:
    """Add the headers that say how long the body is; return what follows the head, and whether that is right."""
    kind = chance.random()
    if kind < 0.85:
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n\r\n" + body, _fits(lines)
    if kind < 0.95:
        lines.append(b"Transfer-Encoding: chunked")
        return b"\r\n\r\n" + _chunked(chance, body), _fits(lines)
    # From here on the framing is wrong or ambiguous, so the connection has no future.
    claimed = chance.choice(
        (b"%d" % (len(body) + 10), b"%d" % max(len(body) - 1, 0), b"-1", b"1,1", b"0x10", b"9" * 30)
    )
    lines.append(b"Content-Length: " + claimed)
    if chance.random() < 0.4:
        lines.append(
            b"Transfer-Encoding: " + chance.choice((b"chunked", b"xchunked", b"chunked, gzip", b"\x0bchunked"))
        )
        return b"\r\n\r\n" + _chunked(chance, body), False
    return b"\r\n\r\n" + body, False


def _fits(lines: list[bytes]) -> bool:
    # hyper reads 100 headers and, as the front sets it, about 32 KB of them.
    return len(lines) < 100 and sum(map(len, lines)) < 30_000


def _chunked(chance: random.Random, body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    # Whoever sends nothing but crumbs is answered 408 after a while; that is another test's matter.
    crumbs = chance.choice((0, 0, 3, 12))
    while at < len(body):
        longest = chance.choice((1, 7)) if len(parts) < crumbs else chance.choice((1_000, 100_000))
        part = body[at : at + (longest if longest > 7 else chance.randrange(1, longest + 1))]
        at += len(part)
        size = b"%X" % len(part) if chance.random() < 0.5 else b"%x;ext=%d" % (len(part), at)
        parts.append(size + b"\r\n" + part + b"\r\n")
    trailers = b"X-Trailer: 1\r\n" if chance.random() < 0.1 else b""
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def _broken(chance: random.Random, raw: bytes) -> bytes:
    kind = chance.randrange(7)
    at = chance.randrange(len(raw))
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw[:at] + chance.randbytes(5) + raw[at:]
    if kind == 2:
        return raw.replace(b"\r\n", b"\n")
    if kind == 3:
        return raw.replace(b"\r\n", b"\r\n folded: ", chance.randrange(1, 4))
    if kind == 4:
        return raw.replace(b"HTTP/1.1", chance.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"", b"HTTP/1.1 x")), 1)
    if kind == 5:
        return chance.randbytes(chance.randrange(1, 300))
    return b"\x16\x03\x01" + raw


def _pieces(chance: random.Random, raw: bytes) -> tuple[bytes, ...]:
    if chance.random() < 0.95 or not raw:
        return (raw,)
    cuts = sorted(chance.randrange(len(raw)) for _ in range(chance.randrange(1, 8)))
    return tuple(raw[begin:end] for begin, end in zip((0, *cuts), (*cuts, len(raw)), strict=True) if begin < end) or (
        raw,
    )
