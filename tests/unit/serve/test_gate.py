"""The checks that come before anything is parsed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.signature import sign, unsigned
from receiver.errors import RejectedError
from receiver.serve.gate import Gate
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
        _, error = attempted(lambda each=each: gate.head(method=each, content_length=length, signature=signature))  # type: ignore[misc]
        assert error is not None
        assert error.status in (400, 401, 405, 413)


def test_the_limit_holds_to_the_byte(gate: Gate, tmp_path: Path) -> None:
    gate.check_size(1_024)
    with pytest.raises(RejectedError) as caught:
        gate.check_size(1_025)
    assert (caught.value.status, caught.value.reason) == (413, "too-large")
    assert not list(tmp_path.iterdir())
