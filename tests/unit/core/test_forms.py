from __future__ import annotations

import json
import tracemalloc
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.forms import payload_of_form
from receiver.core.signature import unsigned
from receiver.errors import RejectedError


@given(st.binary(min_size=1, max_size=40), st.integers(65_500, 65_540))
def test_an_escape_at_the_edge_of_a_slice_is_not_cut(text: bytes, before: int) -> None:
    whole = b"a" * before + text
    assert payload_of_form(urlencode({"payload": whole}).encode()) == whole


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"payload",
        b"payload=",
        b"other=1",
        b"payload=a&payload=a",
        b"&" * 9 + b"payload=a",
        b"payload=a" + b"&" * 30,
        b"payload=%",
        b"payload=%4",
        b"payload=%zz",
        b"payload=%%41",
        b"payload=a b",
        b"payload=\xc3\xa9",
        b"payload=a\nb",
        b"payload=a\0b",
        b"payload=a\x7f",
        b"payload=%\r\n41",
    ],
)
def test_a_form_without_exactly_one_well_escaped_payload_is_answered_400(form: bytes) -> None:
    with pytest.raises(RejectedError) as caught:
        payload_of_form(form)
    assert (caught.value.status, caught.value.reason) == (400, "form")


def test_raw_equals_signs_do_no_harm() -> None:
    assert payload_of_form(b"payload=b%3Dc=d+e") == b"b=c=d e"


@pytest.mark.parametrize("form", [b"a=1&payload=b", b"payload=b&a", b"payload=b&", b"&payload=b", b" payload=b"])
def test_a_form_with_anything_beside_its_payload_is_answered_400(form: bytes) -> None:
    with pytest.raises(RejectedError) as caught:
        payload_of_form(form)
    assert (caught.value.status, caught.value.reason) == (400, "form")


@given(st.text())
def test_no_json_is_a_form_whatever_its_texts_say(text: str) -> None:
    body = json.dumps({"head_commit": {"message": f"{text}&payload=%7B%7D&{text}"}}, ensure_ascii=False)
    with pytest.raises(RejectedError):
        payload_of_form(body.encode("utf-8", "surrogatepass"))


def test_decoding_needs_no_more_memory_than_the_result() -> None:
    form = urlencode({"payload": b'{"a":"/"}' * 200_000}).encode()
    tracemalloc.start()
    try:
        size = len(payload_of_form(form))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * size + 1_000_000


def test_each_refusal_is_a_new_one_so_that_none_keeps_the_bodies_of_others() -> None:
    assert unsigned() is not unsigned()
