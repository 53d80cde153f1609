"""Who signed a body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.signature import Secret, Verifier, parse_signature, sign, unsigned
from receiver.errors import RejectedError
from tests.support.needs import beside_the_checkout
from tests.support.refusals import attempted
from tests.support.signing import SECRET, signature

VECTORS = Path(__file__).resolve().parents[3].parent / "shared" / "vectors" / "signature-vectors.json"
KEYS = st.binary(min_size=1, max_size=80)
BODIES = st.binary(max_size=200)


def vectors() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8")) if VECTORS.exists() else []
    return found


def signs(key: bytes, body: bytes, header: str) -> bool:
    return bool(Verifier([Secret(key)]).signers(body, parse_signature(header)))


def flipped(data: bytes, bit: int) -> bytes:
    place = bit % (len(data) * 8)
    return data[: place // 8] + bytes([data[place // 8] ^ (1 << place % 8)]) + data[place // 8 + 1 :]


def test_the_example_of_githubs_documentation_verifies() -> None:
    header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sign(b"It's a Secret to Everybody", b"Hello, World!") == header
    assert signs(b"It's a Secret to Everybody", b"Hello, World!", header)


@beside_the_checkout(VECTORS, "the shared signatures")
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: str(vector["name"]))
def test_each_vector_is_signed_by_its_own_secret_and_by_no_other(vector: dict[str, Any]) -> None:
    secret, body, header = vector["secret"].encode(), vector["body"].encode(), "sha256=" + vector["sha256"]
    assert sign(secret, body) == header
    others = {other["secret"].encode() for other in vectors()} - {secret}
    assert signs(secret, body, header)
    assert not [other for other in others if signs(other, body, header)]


@given(key=KEYS, body=BODIES)
def test_the_signature_is_that_of_another_implementation(key: bytes, body: bytes) -> None:
    assert sign(SECRET.encode(), body) == signature(body)
    assert signs(key, body, sign(key, body))


@given(key=KEYS, body=st.binary(min_size=1, max_size=200), bit=st.integers(0, 10**6))
def test_a_flipped_bit_of_the_body_never_verifies(key: bytes, body: bytes, bit: int) -> None:
    assert not signs(key, flipped(body, bit), sign(key, body))


@given(key=KEYS, body=BODIES, bit=st.integers(0, 255))
def test_a_flipped_bit_of_the_digest_never_verifies(key: bytes, body: bytes, bit: int) -> None:
    digest = flipped(bytes.fromhex(sign(key, body)[7:]), bit)
    assert not signs(key, body, "sha256=" + digest.hex())


@given(key=KEYS, body=BODIES, bit=st.integers(0, 10**6))
def test_a_flipped_bit_of_the_secret_never_verifies(key: bytes, body: bytes, bit: int) -> None:
    assert not signs(flipped(key, bit), body, sign(key, body))


@given(st.text() | st.text("sha256=0123456789abcdefABCDEF", min_size=60, max_size=80) | st.none())
def test_any_header_is_a_digest_of_32_bytes_or_401(header: str | None) -> None:
    digest, error = attempted(lambda: parse_signature(header))
    assert error is None or str(error) == str(unsigned())
    assert digest is None or (len(digest) == 32 and header == "sha256=" + digest.hex())


@pytest.mark.parametrize("digit", ["A", "g", " ", "\xb2", "\u0660", "\uff41", "\n"])
def test_only_lower_case_hex_digits_of_ascii_are_a_digest(digit: str) -> None:
    with pytest.raises(RejectedError):
        parse_signature("sha256=" + "a" * 63 + digit)


def test_all_secrets_that_sign_are_named() -> None:
    one, two, three = Secret(b"a"), Secret(b"b"), Secret(b"a", frozenset({"example/x"}))
    digest = parse_signature(sign(b"a", b"body"))
    assert Verifier([one, two, three]).signers(b"body", digest) == (one, three)


def test_a_bound_secret_signs_for_its_repositories_in_any_case() -> None:
    secret = Secret(b"a", frozenset({"example/x"}))
    assert secret.signs_for("Example/X")
    assert not secret.signs_for("example/xy")
    assert Secret(b"a").signs_for("any/thing")


@pytest.mark.parametrize("secrets", [[], [Secret(b"")], [Secret(b"a"), Secret(b"")]])
def test_no_secret_and_an_empty_one_are_refused(secrets: list[Secret]) -> None:
    with pytest.raises(ValueError, match="secret"):
        Verifier(secrets)


def test_no_key_shows_in_a_repr() -> None:
    assert "hunter2" not in repr(Secret(b"hunter2", frozenset({"example/x"}))) + repr(Verifier([Secret(b"hunter2")]))
