"""Signatures as GitHub makes them, by Python's own hmac: a second opinion on receiver.core.signature."""

from __future__ import annotations

import hashlib
import hmac
import uuid

SECRET = "It's a Secret to Everybody"


def signature(body: bytes, secret: str = SECRET) -> str:
    """Return the value of X-Hub-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def sha1_signature(body: bytes, secret: str = SECRET) -> str:
    """Return the value of the older X-Hub-Signature."""
    return "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()


def new_guid() -> str:
    """Return a GUID for X-GitHub-Delivery."""
    return str(uuid.uuid4())


def delivery_headers(
    body: bytes, *, secret: str = SECRET, event: str = "push", guid: str | None = None
) -> dict[str, str]:
    """Return the headers with which GitHub delivers `body`."""
    return {
        "Accept": "*/*",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or new_guid(),
        "X-GitHub-Hook-ID": "30",
        "X-GitHub-Hook-Installation-Target-ID": "214748365",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature": sha1_signature(body, secret),
        "X-Hub-Signature-256": signature(body, secret),
    }
