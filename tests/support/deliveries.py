"""Deliveries as GitHub signs them, whole or with one thing about them changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.http import Delivery
from tests.support.public import PublicPlane
from tests.support.pushes import as_form, encoded, push_payload
from tests.support.signing import SECRET, delivery_headers

LIMIT = 25 * 1024 * 1024
"""The longest body that is read, in bytes: the default of serve.max_body_bytes."""
FORM = "application/x-www-form-urlencoded"
SIGNATURE = "X-Hub-Signature-256"
Build = Callable[[], Delivery]


def signed(
    content: bytes | None = None, *, secret: str = SECRET, event: str = "push", guid: str | None = None, **push: Any
) -> Delivery:
    """Return a delivery as GitHub makes it, of a new push unless a body is given."""
    content = encoded(push_payload(**push)) if content is None else content
    return Delivery(content, tuple(delivery_headers(content, secret=secret, event=event, guid=guid).items()))


def guid_of(delivery: Delivery) -> str:
    """Return what a delivery says in X-GitHub-Delivery."""
    return dict(delivery.headers)["X-GitHub-Delivery"]


def delivery_of(payload: Any, **how: Any) -> Delivery:
    """Return a delivery of this payload; `how` is what `signed` takes."""
    return signed(encoded(payload), **how)


def changed(**top: Any) -> Delivery:
    """Return a signed push with these fields at the top replaced."""
    return delivery_of({**push_payload(), **top})


def in_repository(**fields: Any) -> Delivery:
    """Return a signed push with these fields of its repository replaced."""
    payload = push_payload()
    return delivery_of({**payload, "repository": {**payload["repository"], **fields}})


def with_header(name: str, value: str) -> Build:
    """Build a signed push that has this header in place of its own."""
    return lambda: signed().with_headers((name, value))


def without_header(name: str) -> Build:
    """Build a signed push without this header."""
    return lambda: signed().without(name)


def with_body(content: bytes) -> Build:
    """Build a delivery of this body, rightly signed."""
    return lambda: signed(content)


def signed_form(content: bytes | None = None) -> Delivery:
    """Return a delivery with content type form, of a new push unless a body is given."""
    content = as_form(encoded(push_payload())) if content is None else content
    return signed(content).with_headers(("Content-Type", FORM))


def fence(plane: PublicPlane) -> str:
    """Store one push, so that all that was answered before it is stored too; return its GUID."""
    delivery = signed()
    assert plane.deliver(delivery).status == 202
    return guid_of(delivery)
