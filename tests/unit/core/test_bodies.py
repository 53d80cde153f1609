"""What is kept of a payload that is too long."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.core.bodies import bounded_payload
from receiver.core.events import Push, decode_push
from receiver.core.identity import push_keys
from receiver.core.triggers import skips
from tests.support.pushes import commit, encoded, object_id, push_payload, tag_payload
from tests.support.refs import LEGAL_REFS
from tests.support.signing import new_guid

LIMIT = 16 * 1024
SKIPS = ["[skip ci]", "[ci skip]", "\n\nskip-checks: true", "\n\nskip-checks:true\n", "x"]


def bulky(**fields: Any) -> dict[str, Any]:
    return push_payload(commits=[commit(object_id(), "x" * 500) for _ in range(60)], **fields)


def decoded(payload: bytes) -> Push:
    return decode_push(payload, with_files=False)


def bounded(payload: dict[str, Any]) -> bytes:
    kept = bounded_payload(encoded(payload), limit_bytes=LIMIT)
    assert kept is not None
    assert len(kept) <= LIMIT
    return kept


def test_a_payload_within_the_limit_is_kept_as_it_is() -> None:
    payload = encoded(push_payload())
    assert bounded_payload(payload, limit_bytes=len(payload)) is payload


def test_a_longer_one_loses_its_commits_and_file_lists() -> None:
    head = commit(object_id(), "Title\n\nText", added=["a"] * 2_000)
    kept = json.loads(bounded(bulky(head_commit=head)))
    assert "commits" not in kept
    assert kept["head_commit"]["message"] == "Title\n\nText"
    assert not {"added", "removed", "modified"} & kept["head_commit"].keys()
    assert kept["repository"]["default_branch"] == "master"


def test_what_is_long_elsewhere_is_kept_by_nobody() -> None:
    assert bounded_payload(encoded(push_payload(compare="x" * LIMIT)), limit_bytes=LIMIT) is None


def test_a_missing_or_empty_head_commit_is_no_trouble() -> None:
    for fields in ({"head_commit": None}, {}):
        payload = {**bulky(), **fields}
        if not fields:
            del payload["head_commit"]
        assert decoded(bounded(payload)).after == payload["after"]


@given(
    ref=LEGAL_REFS,
    before=st.text(max_size=50),
    filler=st.integers(0, 9_000),
    marker=st.sampled_from(SKIPS),
    tail=st.integers(0, 40),
    tag=st.booleans(),
)
def test_what_is_kept_decides_as_the_whole_did(
    ref: str, before: str, filler: int, marker: str, tail: int, tag: bool
) -> None:
    message = before + "y" * filler + marker + "z" * tail
    head = commit(object_id(), message)
    payload = {**(tag_payload(head_commit=head) if tag else bulky(head_commit=head)), "ref": ref}
    payload["commits"] = bulky()["commits"]
    whole, kept = decoded(encoded(payload)), decoded(bounded(payload))
    cut = replace(kept, message=whole.message)
    assert cut == whole
    # A push that was wanted is wanted still. (One that is skipped is not stored.)
    assert skips(whole.message) or not skips(kept.message)
    guid = new_guid()
    assert push_keys(kept, guid) == push_keys(whole, guid)


def test_a_message_that_is_cut_right_after_a_trailer_asks_for_nothing() -> None:
    text = "\n\nskip-checks: true"
    message = "x" * (4_096 - len(text)) + text + " but not here"
    kept = decoded(bounded(bulky(head_commit=commit(object_id(), message))))
    assert not skips(message)
    assert not skips(kept.message)
    assert len(kept.message) == 4_097
