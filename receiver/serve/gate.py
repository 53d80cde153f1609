"""The checks that come before anything is parsed, in the order in which they can be made.

Free of I/O: whoever reads the request asks `head` before the body and `body` after it. Refusals are RejectedError.
"""

from __future__ import annotations

from dataclasses import dataclass

from receiver.core.signature import Secret, parse_signature, unsigned
from receiver.errors import RejectedError
from receiver.serve.secrets import SecretFiles


@dataclass(frozen=True, slots=True)
class Verified:
    """A body with the secrets that signed it: the proof that the gate was passed."""

    body: bytes
    signers: tuple[Secret, ...]


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
        self._secrets.look()
        signers = self._secrets.verifier.signers(body, digest)
        if not signers and self._secrets.look(at_once=True):
            signers = self._secrets.verifier.signers(body, digest)
        if not signers:
            raise unsigned()
        return Verified(body, signers)
