"""The checks that come before anything is parsed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.signature import sign, unsigned
from receiver.errors import RejectedError
from receiver.serve.gate import Gate, Mismatch
from receiver.serve.secrets import SecretFiles
from tests.support.folders import settings_in
from tests.support.refusals import attempted
from tests.support.signing import SECRET

GOOD = sign(SECRET.encode(), b"body")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """A gate for bodies of up to 1024 bytes."""
    settings = settings_in(tmp_path_factory.mktemp("gate"))
    return Gate(SecretFiles(settings, clock=lambda: 0.0), max_body_bytes=1_024)


def test_a_good_head_gives_the_digest_that_the_body_has_to_have(gate: Gate) -> None:
    digest = gate.head(method="POST", content_length="4", signature=GOOD)
    assert gate.body(b"body", digest).body == b"body"
    with pytest.raises(RejectedError) as caught:
        gate.body(b"Body", digest)
    assert str(caught.value) == str(unsigned())


@pytest.mark.parametrize(
    ("method", "length", "signature", "status"),
    [
        ("GET", "9999", None, 405),
        ("post", "1", GOOD, 405),
        ("POST", "1025", None, 413),
        ("POST", "9" * 5_000, None, 413),
        ("POST", "-1", GOOD, 400),
        ("POST", "", GOOD, 400),
        ("POST", "1e3", GOOD, 400),
        ("POST", "\xb2", GOOD, 400),
        ("POST", "1024", None, 401),
        ("POST", None, None, 401),
        ("POST", "0" * 5_000 + "4", GOOD, 200),
        ("POST", "1024", GOOD, 200),
        ("POST", None, GOOD, 200),
    ],
)
def test_the_head_is_checked_in_order(
    gate: Gate, method: str, length: str | None, signature: str | None, status: int
) -> None:
    _, error = attempted(lambda: gate.head(method=method, content_length=length, signature=signature))
    assert (error.status if error else 200) == status


@given(method=st.text(max_size=5), length=st.none() | st.text(max_size=30), signature=st.none() | st.text(max_size=80))
def test_any_head_is_answered_with_a_documented_status(
    gate: Gate, method: str, length: str | None, signature: str | None
) -> None:
    for each in (method, "POST"):
        _, error = attempted(lambda each=each: gate.head(method=each, content_length=length, signature=signature))  # type: ignore[misc]  # mypy infers no lambda with a default
        assert error is not None
        assert error.status in (400, 401, 405, 413)


def test_the_limit_holds_to_the_byte(gate: Gate, tmp_path: Path) -> None:
    gate.check_size(1_024)
    with pytest.raises(RejectedError) as caught:
        gate.check_size(1_025)
    assert (caught.value.status, caught.value.reason) == (413, "too-large")
    assert not list(tmp_path.iterdir())


class RotatedPlane:
    """A gate over a folder whose secret changes; `now` is the gate's clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        settings = settings_in(folder)
        (self.file,) = (settings.path(name) for name in settings.serve.secrets)
        self.gate = Gate(SecretFiles(settings, clock=lambda: self.now), max_body_bytes=1_024)

    def rotate(self, secret: bytes) -> bytes:
        """Replace the secret, as an editor does; return the digest that it gives `body`."""
        fresh = self.file.with_suffix(".fresh")
        fresh.write_bytes(secret)
        fresh.replace(self.file)
        return bytes.fromhex(sign(secret, b"body").removeprefix("sha256="))


@pytest.fixture
def rotated(tmp_path: Path) -> RotatedPlane:
    return RotatedPlane(tmp_path)


def test_a_mismatch_is_not_final_before_the_secrets_were_looked_at_again(rotated: RotatedPlane) -> None:
    digest = rotated.rotate(b"another one")
    mismatch = rotated.gate.check(b"body", digest)
    assert isinstance(mismatch, Mismatch)
    rotated.gate.look()
    assert rotated.gate.check_again(mismatch).body == b"body"


def test_secrets_that_another_request_re_read_meanwhile_count_for_a_mismatch_too(rotated: RotatedPlane) -> None:
    digest = rotated.rotate(b"another one")
    mismatch = rotated.gate.check(b"body", digest)
    assert isinstance(mismatch, Mismatch)
    rotated.now = 10.0
    assert isinstance(rotated.gate.check(b"other", digest), Mismatch)
    rotated.gate.look()
    assert rotated.gate.check_again(mismatch).body == b"body"


def test_a_mismatch_with_the_newest_secrets_is_final(rotated: RotatedPlane) -> None:
    mismatch = rotated.gate.check(b"Body", rotated.rotate(b"another one"))
    assert isinstance(mismatch, Mismatch)
    rotated.gate.look()
    with pytest.raises(RejectedError, match="401"):
        rotated.gate.check_again(mismatch)


def test_a_mismatch_shows_neither_body_nor_digest(rotated: RotatedPlane) -> None:
    mismatch = rotated.gate.check(b"text of a private repository", bytes(32))
    assert "private" not in repr(mismatch)
    assert "\\x00" not in repr(mismatch)
