"""The Flask application: whatever comes, the answer is one of the documented ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.folders import trigger, write_folder
from tests.support.http import Answer, Delivery
from tests.support.public import FlaskPlane
from tests.support.pushes import as_form, encoded, object_id, push_payload
from tests.support.signing import SECRET, delivery_headers, signature

DOCUMENTED = {200, 202, 400, 401, 405, 413, 415}
HEADERS = [
    "Content-Type",
    "Content-Encoding",
    "X-GitHub-Event",
    "X-GitHub-Delivery",
    "X-GitHub-Hook-ID",
    "X-Hub-Signature-256",
    "X-Hub-Signature",
    "Transfer-Encoding",
    "Expect",
    "Host",
    "Cookie",
    "Authorization",
]
LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=90)
LENGTHS = st.none() | LATIN | st.integers(-1, 2**70).map(str)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskPlane]:
    """An application with a trigger for branches and tags that reads params of several kinds."""
    params = {"title": "title", "files": {"from": "head_commit.added", "default": []}, "branch": "repository.x.y"}
    triggers = [
        trigger(on={"push": {"branches": ["**"], "tags": ["**"], "paths": ["**"]}}),
        trigger("two", params=params),
    ]
    plane = FlaskPlane(write_folder(tmp_path_factory.mktemp("app"), triggers=triggers))
    yield plane
    plane.close()


def check(answer: Answer) -> None:
    assert answer.status in DOCUMENTED, answer
    content = answer.json
    assert content.get("error") or content.get("delivery")
    text = answer.body.decode()
    assert SECRET not in text
    assert "Traceback" not in text


@given(
    body=st.binary(max_size=200),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), LATIN), max_size=8),
    method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "TRACE", "OPTIONS", "PATCH"]),
    length=LENGTHS,
)
def test_any_headers_and_body_are_answered_as_documented(
    plane: FlaskPlane, body: bytes, headers: list[tuple[str, str]], method: str, length: str | None
) -> None:
    check(plane.deliver(Delivery(body, tuple(headers), method=method, length=length)))


@given(
    body=st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS[:5]), LATIN), max_size=3),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
    event=st.sampled_from(["push", "ping", "star"]),
)
def test_any_signed_body_is_answered_as_documented(
    plane: FlaskPlane, body: bytes, headers: list[tuple[str, str]], kind: str, event: str
) -> None:
    good = {**delivery_headers(body, event=event), "Content-Type": kind}
    check(plane.deliver(Delivery(body, tuple(good.items())).with_headers(*headers)))


@settings(max_examples=150)
@given(data=st.data())
def test_any_change_of_a_signed_push_is_answered_as_documented(plane: FlaskPlane, data: st.DataObject) -> None:
    payload: dict[str, Any] = push_payload(
        ref=data.draw(st.sampled_from(["refs/heads/", "refs/tags/", "refs/"])) + data.draw(st.text(max_size=12)),
        after=object_id(length=data.draw(st.sampled_from([40, 40, 64]))),
    )
    for place in (payload, payload["repository"], payload["head_commit"]):
        for name in data.draw(st.lists(st.sampled_from(sorted(place)), max_size=1)):
            place[name] = data.draw(JSON_VALUES)
    content = json.dumps(payload, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    body = as_form(content) if (form := data.draw(st.booleans())) else content
    headers = delivery_headers(body)
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    check(plane.deliver(Delivery(body, tuple(headers.items()))))


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_delivery_is_answered_401(plane: FlaskPlane, place: int, bit: int) -> None:
    body = encoded(push_payload())
    flipped = bytearray(body)
    flipped[place % len(body)] ^= 1 << bit
    headers = tuple(delivery_headers(body).items())
    assert plane.deliver(Delivery(bytes(flipped), headers)).status == 401
    value = bytearray(signature(body).encode("latin-1"))
    value[place % len(value)] ^= 1 << bit
    text = value.decode("latin-1")
    if not {"\r", "\n"} & set(text):
        delivery = Delivery(body, headers).with_headers(("X-Hub-Signature-256", text))
        assert plane.deliver(delivery).status == 401


def test_a_refused_delivery_with_a_cookie_gets_none_back(plane: FlaskPlane) -> None:
    answer = plane.deliver(Delivery(b"", (("Cookie", "session=x"),)))
    assert "set-cookie" not in answer.headers
