"""The checks that come before anything is parsed, in the order in which they can be made.

Free of I/O: whoever reads the request asks `head` before the body and `body` after it. Refusals are RejectedError.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from receiver.core.signature import Secret, Verifier, parse_signature, unsigned
from receiver.errors import RejectedError
from receiver.serve.secrets import SecretFiles


@dataclass(frozen=True, slots=True)
class Verified:
    """A body with the secrets that signed it: the proof that the gate was passed."""

    body: bytes
    signers: tuple[Secret, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A body that none of the secrets of `verifier` signed."""

    body: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    verifier: Verifier


class Gate:
    """Method, size, signature: a request that fails here costs no parsing and leaves no trace."""

    def __init__(self, secrets: SecretFiles, *, max_body_bytes: int) -> None:
        self._secrets = secrets
        self.max_body_bytes = max_body_bytes

    def head(self, *, method: str, content_length: str | None, signature: str | None) -> bytes:
        """Check what can be known before the body; return the digest that the body has to have."""
        if method != "POST":
            raise RejectedError(405, "method", "deliveries are POST requests")
        if content_length is not None:
            if not (content_length.isascii() and content_length.isdigit()):
                raise RejectedError(400, "content-length", "the Content-Length header is not a number")
            self.check_size(int(content_length[:20]))
        return parse_signature(signature)

    def check_size(self, size_bytes: int) -> None:
        """Raise RejectedError(413) for a body longer than the limit."""
        if size_bytes > self.max_body_bytes:
            raise RejectedError(413, "too-large", f"the body is longer than {self.max_body_bytes} bytes")

    def body(self, body: bytes, digest: bytes) -> Verified:
        """Check the signature; a mismatch looks at the secret files again before it is final."""
        found = self.check(body, digest)
        if isinstance(found, Verified):
            return found
        self.look()
        return self.check_again(found)

    def check(self, body: bytes, digest: bytes) -> Verified | Mismatch:
        """Check the signature against the secrets as they are known; a mismatch is not final yet."""
        self._secrets.look()
        verifier = self._secrets.verifier
        signers = verifier.signers(body, digest)
        return Verified(body, signers) if signers else Mismatch(body, digest, verifier)

    def look(self) -> None:
        """Look at the secret files now."""
        self._secrets.look(at_once=True)

    def check_again(self, mismatch: Mismatch) -> Verified:
        """Make a mismatch final, after a look: raises RejectedError(401) unless other secrets are known by now, and one fits."""
        if self._secrets.verifier is not mismatch.verifier:
            found = self.check(mismatch.body, mismatch.digest)
            if isinstance(found, Verified):
                return found
        raise unsigned()
