"""Who signed a body: HMAC-SHA256 as GitHub sends it in X-Hub-Signature-256.

Rule: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from receiver.errors import RejectedError

_PREFIX = "sha256="
_DIGITS = frozenset("0123456789abcdef")
_UNSIGNED = (
    "the X-Hub-Signature-256 header does not sign this body with a secret of the receiver for this repository; "
    "compare the secret in the webhook's settings with the receiver's"
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A webhook secret: `key` as bytes, and the lower-case owner/name that it may sign for (None: any)."""

    key: bytes = field(repr=False)
    repositories: frozenset[str] | None = None

    def signs_for(self, repository: str) -> bool:
        """Tell whether this secret may vouch for `repository` (owner/name in any case)."""
        return self.repositories is None or repository.lower() in self.repositories


def unsigned() -> RejectedError:
    """Return the one answer to every delivery that proves nothing, so that it tells a stranger nothing.

    Each time a new one: an exception collects the frames of every raise, and so the bodies of all who were refused.
    """
    return RejectedError(401, "signature", _UNSIGNED)


def parse_signature(header: str | None) -> bytes:
    """Return the 32 bytes of a well-formed `sha256=` header value.

    Raises RejectedError(401) for anything else: absent, SHA-1, upper case, other lengths, other characters.
    """
    if header is None or len(header) != 71 or not header.startswith(_PREFIX) or not _DIGITS.issuperset(header[7:]):
        raise unsigned()
    return bytes.fromhex(header[7:])


class Verifier:
    """Compares a digest with every secret, each comparison in constant time, never stopping at the first match."""

    __slots__ = ("_keyed",)

    def __init__(self, secrets: Iterable[Secret]) -> None:
        """Raises ValueError when there is no secret or an empty one: anyone could sign with that."""
        self._keyed = [(HMAC(secret.key, SHA256()), secret) for secret in secrets if secret.key or _refuse_empty()]
        if not self._keyed:
            raise ValueError("at least one secret is needed")

    def __len__(self) -> int:
        return len(self._keyed)

    def __repr__(self) -> str:
        return f"<Verifier with {len(self)} secrets>"

    def signers(self, body: bytes, digest: bytes) -> tuple[Secret, ...]:
        """Return the secrets under which `digest` is the HMAC-SHA256 of `body`; empty when there is none."""
        return tuple(secret for keyed, secret in self._keyed if _verifies(keyed, body, digest))


def _verifies(keyed: HMAC, body: bytes, digest: bytes) -> bool:
    mac = keyed.copy()
    mac.update(body)
    try:
        mac.verify(digest)
    except InvalidSignature:
        return False
    return True


def _refuse_empty() -> bool:
    raise ValueError("a secret must not be empty")


def sign(key: bytes, body: bytes) -> str:
    """Return the value of X-Hub-Signature-256 that GitHub would send for `body`."""
    mac = HMAC(key, SHA256())
    mac.update(body)
    return _PREFIX + mac.finalize().hex()
