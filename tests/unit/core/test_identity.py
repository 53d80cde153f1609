"""What makes two pushes the same, and the names of runs."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.core.events import Push, decode_push
from receiver.core.identity import NAME_LENGTH, is_job_of, job_key, push_keys, run_name
from tests.support.pushes import encoded, object_id, push_payload
from tests.support.signing import new_guid

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
PREFIXES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
BYTES = st.binary(min_size=32, max_size=32)


def push(**fields: Any) -> Push:
    return decode_push(encoded(push_payload(pushed_at=1_700_000_000, **fields)), with_files=False)


@given(prefix=PREFIXES, key=BYTES, salt=st.integers(0, 3))
def test_a_run_name_is_always_a_valid_name_of_at_most_29_characters(prefix: str, key: bytes, salt: int) -> None:
    name = run_name(prefix, key, salt=salt)
    assert len(name) <= NAME_LENGTH == 29
    assert DNS_LABEL.fullmatch(name)
    assert name.startswith(prefix)
    assert len(name) - len(prefix) == 20
    assert name == run_name(prefix, key, salt=salt)


@given(key=BYTES, other=BYTES)
def test_names_differ_where_keys_or_salts_do(key: bytes, other: bytes) -> None:
    assert (run_name("a-", key) == run_name("a-", other)) == (key == other)
    assert len({run_name("a-", key, salt=salt) for salt in range(4)}) == 4


def test_a_prefix_that_leaves_no_room_is_refused() -> None:
    assert len(run_name("a" * 9, b"")) == 29
    with pytest.raises(ValueError, match="longer than 9 characters"):
        run_name("a" * 10, b"")


@pytest.mark.parametrize(
    "difference",
    [
        {"repository": "another/repository"},
        {"repository_id": 1},
        {"ref": "refs/heads/other"},
        {"before": object_id()},
        {"after": object_id()},
    ],
)
def test_pushes_of_different_content_share_no_key(difference: dict[str, Any]) -> None:
    one, guid = push(), new_guid()
    other = replace(one, **difference)
    first, second = push_keys(one, guid), push_keys(other, guid)
    assert not {first.by_time, first.by_guid} & {second.by_time, second.by_guid}


def test_a_header_can_join_two_pushes_of_equal_content_and_never_separate_them() -> None:
    one = push()
    later = replace(one, pushed_at=1_700_000_001)
    guid, other_guid = new_guid(), new_guid()
    assert push_keys(one, guid).by_time == push_keys(one, other_guid).by_time
    assert push_keys(one, guid).by_guid == push_keys(later, guid).by_guid
    assert push_keys(one, guid).by_time != push_keys(later, other_guid).by_time


def test_a_job_that_was_stored_before_names_went_into_keys_is_still_its_pushs_own() -> None:
    one = push()
    parts = ("pushed_at", str(one.repository_id), one.ref, one.before, one.after, str(one.pushed_at))
    old = hashlib.sha256("\0".join(parts).encode()).digest()
    assert old != push_keys(one, "").by_time
    other = replace(one, ref="refs/heads/x")
    for push_key in (old, push_keys(one, "").by_time):
        facts: dict[str, Any] = {"push_key": push_key, "trigger": "striv", "generation": 2}
        key = job_key(push_key, "striv", 2)
        assert (is_job_of(one, key=key, **facts), is_job_of(other, key=key, **facts)) == (True, False)


def test_the_case_of_the_repositorys_name_makes_no_other_push() -> None:
    one, guid = push(), new_guid()
    assert push_keys(one, guid) == push_keys(replace(one, repository=one.repository.upper()), guid)


@given(key=BYTES, triggers=st.lists(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), min_size=2, unique=True))
def test_each_trigger_and_generation_has_a_job_key_of_its_own(key: bytes, triggers: list[str]) -> None:
    keys = {job_key(key, trigger, generation) for trigger in triggers for generation in (1, 2, 11)}
    assert len(keys) == 3 * len(triggers)
    assert {len(each) for each in keys} == {32}
