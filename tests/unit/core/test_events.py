"""What a delivery says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.events import (
    FORM,
    JSON,
    Envelope,
    decode_push,
    named_repository,
    payload_of,
    read_envelope,
)
from receiver.errors import RejectedError
from tests.support.needs import beside_the_checkout
from tests.support.pushes import (
    OFFICIAL,
    ZERO,
    commit,
    deletion_payload,
    encoded,
    object_id,
    push_payload,
    tag_payload,
)
from tests.support.refs import LEGAL_REFS
from tests.support.refusals import attempted
from tests.support.signing import new_guid

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def push(payload: dict[str, Any], *, with_files: bool = False) -> Any:
    return decode_push(encoded(payload), with_files=with_files)


def test_a_push_to_a_branch_is_decoded() -> None:
    payload = push_payload(ref="refs/heads/feature/a", message="Add a task\n\nWhy.", pushed_at=1_700_000_000)
    found = push(payload)
    assert (found.branch, found.tag, found.title) == ("feature/a", "", "Add a task")
    assert (found.repository, found.repository_id) == ("bittrance/striv", 214_748_365)
    assert found.head_sha == found.after == payload["after"]
    assert (found.created, found.deleted, found.forced, found.pushed_at) == (False, False, False, 1_700_000_000)
    assert found.pusher == "mona"


def test_an_annotated_tag_names_the_commit_and_not_the_tag_object() -> None:
    payload = tag_payload("v1.0/rc")
    found = push(payload)
    assert (found.tag, found.branch, found.created) == ("v1.0/rc", "", True)
    assert found.head_sha == payload["head_commit"]["id"] != found.after


def test_a_branch_runs_its_new_tip_whatever_head_commit_says() -> None:
    payload = push_payload(head_commit=commit(object_id()))
    assert push(payload).head_sha == payload["after"]


def test_a_ref_text_inside_a_branch_name_stays() -> None:
    assert push(push_payload(ref="refs/heads/refs/heads/x")).branch == "refs/heads/x"


def test_zeros_alone_tell_creation_and_deletion() -> None:
    gone = push({**deletion_payload(), "deleted": False})
    assert (gone.deleted, gone.title) == (True, "")
    assert push(push_payload(before=ZERO)).created


def test_what_gitea_leaves_out_has_a_default() -> None:
    payload = push_payload()
    for name in ("created", "deleted", "forced", "base_ref", "compare", "pusher"):
        del payload[name]
    del payload["repository"]["pushed_at"]
    found = push(payload)
    assert (found.pushed_at, found.compare, found.pusher, found.forced) == (None, "", "", False)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock shows Tokyo's time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
@pytest.mark.parametrize(
    "text",
    ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20"],
)
def test_pushed_at_may_be_iso_8601_and_without_a_zone_it_is_utc(text: str) -> None:
    payload = push_payload()
    assert push({**payload, "repository": {**payload["repository"], "pushed_at": text}}).pushed_at == 1_700_000_000


def test_files_are_read_only_where_they_are_asked_for() -> None:
    payload = push_payload(commits=[commit(object_id(), added=["a"], modified=["b"])])
    assert not push(payload).changed.complete
    assert set(push(payload, with_files=True).changed.names) == {"a", "b"}


@pytest.mark.parametrize("fields", [{"created": True}, {"forced": True}, {"before": ZERO}, {"commits": None}])
def test_files_count_as_unknown_where_the_payload_may_not_list_all(fields: dict[str, Any]) -> None:
    assert not push({**push_payload(), **fields}, with_files=True).changed.complete


@given(ref=LEGAL_REFS)
def test_any_ref_that_git_allows_is_decoded_as_it_is(ref: str) -> None:
    found = push(push_payload(ref=ref))
    assert found.ref == ref
    assert ref in (f"refs/heads/{found.branch}", f"refs/tags/{found.tag}")


@given(data=st.data())
def test_whatever_stands_in_a_field_the_answer_is_a_push_or_400(data: st.DataObject) -> None:
    payload = push_payload()
    for name in data.draw(st.lists(st.sampled_from(sorted(payload)), max_size=4)):
        payload[name] = data.draw(VALUES)
    repository = payload["repository"]
    if isinstance(repository, dict):
        for name in data.draw(st.lists(st.sampled_from(["id", "full_name", "pushed_at"]), max_size=2)):
            repository[name] = data.draw(VALUES | st.integers(-(10**30), 10**30))
    text = json.dumps(payload, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    with_files = data.draw(st.booleans())
    found, error = attempted(lambda: decode_push(payload_of(text, JSON), with_files=with_files))
    assert error is None or error.status == 400
    if found is not None:
        assert 0 <= found.repository_id < 2**63
        assert found.pushed_at is None or abs(found.pushed_at) < 2**54


@given(st.binary(max_size=300), st.text(max_size=60) | st.none(), st.text(max_size=20) | st.none())
def test_any_body_and_content_type_is_text_or_a_documented_refusal(
    body: bytes, content_type: str | None, encoding: str | None
) -> None:
    for kind in (content_type, JSON, FORM):
        payload, error = attempted(partial(payload_of, body, kind, encoding))
        assert error is None or error.status in (400, 415)
        assert payload is None or payload.decode() is not None


@given(st.text(max_size=200))
def test_a_form_gives_back_the_very_text_that_was_put_in(text: str) -> None:
    if text:
        payload = text.encode()
        assert payload_of(urlencode({"payload": payload}).encode(), FORM) == payload


@given(st.text(max_size=50), st.sampled_from(["%02x", "%02X"]))
def test_a_form_may_escape_every_byte_in_either_case(text: str, form: str) -> None:
    if text:
        escaped = "".join("%" + form % byte for byte in text.encode())
        assert payload_of(f"payload={escaped}".encode(), FORM) == text.encode()


@pytest.mark.parametrize("value", ["%", "%4", "%zz", "%%41", "a b", "a\nb", "\t", "%4\n1"])
def test_a_form_that_is_not_properly_escaped_is_answered_400(value: str) -> None:
    with pytest.raises(RejectedError) as caught:
        payload_of(f"payload={value}".encode(), FORM)
    assert (caught.value.status, caught.value.reason) == (400, "form")


def test_a_large_payload_is_checked_for_utf_8_to_its_end_and_across_slices() -> None:
    filler = b"x" * (64 * 1024 - 1)
    good = filler + "ü".encode() + filler
    assert payload_of(good, JSON) is good
    for bad in (filler + b"\xc3", filler + b"\xc3" + filler):
        with pytest.raises(RejectedError) as caught:
            payload_of(bad, JSON)
        assert caught.value.reason == "encoding"


def test_an_envelope_believes_no_header() -> None:
    guid = new_guid()
    assert read_envelope(event="push", guid=guid.upper(), hook_id="30") == Envelope("push", guid, 30)
    for hook_id in (None, "", "x", "\xb2", "-1", "9" * 19):
        assert read_envelope(event="push", guid=guid, hook_id=hook_id).hook_id is None


@given(st.text(max_size=40) | st.none(), st.text(max_size=40) | st.none(), st.text(max_size=25) | st.none())
def test_any_envelope_is_clean_or_400(event: str | None, guid: str | None, hook_id: str | None) -> None:
    envelope, error = attempted(lambda: read_envelope(event=event, guid=guid, hook_id=hook_id))
    assert error is None or error.status == 400
    assert envelope is None or (envelope.event == event and envelope.guid == str(guid).lower())


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({}, None),
        ({"repository": None}, None),
        ({"repository": {}}, None),
        ({"repository": {"full_name": ""}}, None),
        ({"repository": {"full_name": "a/b"}}, "a/b"),
    ],
)
def test_any_event_names_its_repository_where_it_has_one(payload: dict[str, Any], name: str | None) -> None:
    assert named_repository(encoded(payload)) == name


@pytest.mark.parametrize("name", ["a", "a/b/c", "a/b\n", "a/" + "b" * 200, "a b/c", "\0/a"])
def test_a_repository_of_an_event_is_owner_and_name_or_400(name: str) -> None:
    with pytest.raises(RejectedError) as caught:
        named_repository(encoded({"repository": {"full_name": name}}))
    assert (caught.value.status, caught.value.reason) == (400, "repository")


OFFICIAL_PUSHES = sorted(OFFICIAL.glob("*__push__*.json"))


@beside_the_checkout(OFFICIAL, "GitHub's own examples")
@pytest.mark.parametrize("file", OFFICIAL_PUSHES, ids=lambda file: file.name)
def test_githubs_own_examples_are_decoded(file: Path) -> None:
    payload = json.loads(file.read_text(encoding="utf-8"))
    found = decode_push(file.read_bytes(), with_files=True)
    assert (found.ref, found.before, found.after) == (payload["ref"], payload["before"], payload["after"])
    assert (found.deleted, found.created) == (payload["deleted"], payload["created"])
    assert found.installation_id == payload.get("installation", {}).get("id")
