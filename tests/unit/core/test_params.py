"""Where the values of parameters come from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.events import decode_push
from receiver.core.params import OWN_NAMES, ParamReader, ParamRule, PushContext, Value, check_default, check_source
from receiver.errors import RejectedError
from tests.support.pushes import commit, encoded, object_id, push_payload
from tests.support.refs import LEGAL_REFS
from tests.support.refusals import attempted

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
TEXTS = st.text(max_size=30) | st.sampled_from(["$(", "$(params.x)", "$$(x)", "$", "(", "a$(b"])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def read(payload: dict[str, Any] | bytes, *rules: ParamRule) -> dict[str, Value]:
    body = payload if isinstance(payload, bytes) else encoded(payload)
    push = decode_push(body, with_files=False)
    return ParamReader(rules).read(push, PushContext(delivery_id=GUID, trigger="striv"), body)


def value(payload: dict[str, Any], source: str, default: Value | None = None) -> Value:
    return read(payload, ParamRule("p", source, default))["p"]


def refused(payload: dict[str, Any], source: str, default: Value | None = None) -> str:
    with pytest.raises(RejectedError) as caught:
        value(payload, source, default)
    assert (caught.value.status, caught.value.reason) == (400, "param")
    return caught.value.detail


def test_every_own_name_has_its_value() -> None:
    payload = push_payload(ref="refs/heads/a/b", pushed_at=1_700_000_000, message="Title\n\nText", forced=True)
    found = read(payload, *(ParamRule(name, name) for name in OWN_NAMES))
    assert found == {
        "after": payload["after"],
        "before": payload["before"],
        "branch": "a/b",
        "compare": payload["compare"],
        "created": "false",
        "delivery_id": GUID,
        "forced": "true",
        "head_sha": payload["after"],
        "pushed_at": "1700000000",
        "pusher": "mona",
        "ref": "refs/heads/a/b",
        "repository": "bittrance/striv",
        "repository_id": "214748365",
        "tag": "",
        "title": "Title",
        "trigger": "striv",
    }


def test_own_names_without_a_value_are_empty_texts() -> None:
    payload = {**push_payload(ref="refs/tags/v1"), "pusher": None}
    payload["repository"]["pushed_at"] = None
    found = read(payload, ParamRule("a", "branch"), ParamRule("b", "pushed_at"), ParamRule("c", "pusher", "nobody"))
    assert found == {"a": "", "b": "", "c": "nobody"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("repository.default_branch", "master"),
        ("repository.private", "false"),
        ("repository.id", "214748365"),
        ("repository.owner.login", "mona-org"),
        ("head_commit.modified", ["README.md"]),
        ("x.float", "1.5"),
        ("x.large", "18446744073709551615"),
        ("x.object", {"a": "1", "b": "true"}),
        ("x.mixed", ["a", "1", "true"]),
        ("x.odd-key", "y"),
        ("x.class", "z"),
    ],
)
def test_a_path_takes_a_value_whole(source: str, expected: Value) -> None:
    x = {
        "float": 1.5,
        "large": 2**64 - 1,
        "object": {"a": 1, "b": True},
        "mixed": ["a", 1, True],
        "odd-key": "y",
        "class": "z",
    }
    payload = push_payload(x=x)
    payload["repository"]["owner"]["login"] = "mona-org"
    assert value(payload, source) == expected


def test_a_whole_object_and_a_part_of_it_can_both_be_asked_for() -> None:
    payload = push_payload(x={"a": "1"})
    found = read(payload, ParamRule("whole", "x.a"), ParamRule("all", "pusher.name"), ParamRule("more", "x.b", "none"))
    assert found == {"whole": "1", "all": "mona", "more": "none"}
    nested = push_payload(x={"y": {"a": "1"}})
    assert read(nested, ParamRule("whole", "x.y"), ParamRule("part", "x.y.a")) == {"whole": {"a": "1"}, "part": "1"}


@pytest.mark.parametrize(
    "payload", [push_payload(), push_payload(x=None), push_payload(x={"y": None}), push_payload(x={})]
)
def test_an_absent_value_takes_the_default_or_is_refused(payload: dict[str, Any]) -> None:
    assert value(payload, "x.y", "fallback") == "fallback"
    assert value(payload, "x.y", []) == []
    assert "no `x.y`, which the parameter `p` needs" in refused(payload, "x.y")


@pytest.mark.parametrize("x", ["text", 5, ["a"], True])
def test_a_path_through_something_else_than_an_object_is_refused(x: object) -> None:
    assert "not the shape" in refused(push_payload(x=x), "x.y")


@pytest.mark.parametrize("y", [[["a"]], [{"a": "b"}], {"a": []}, [None], {"a": None}])
def test_what_no_param_can_hold_is_refused(y: object) -> None:
    assert "nested deeper" in refused(push_payload(x={"y": y}), "x.y")


@pytest.mark.parametrize("y", ["$(x)", "a $(b", ["a", "$(x)"], {"a": "$(x)"}, {"$(a)": "x"}, "$$(x)"])
def test_a_value_that_tekton_would_expand_is_refused(y: object) -> None:
    assert "holds `$(`, which Tekton would expand" in refused(push_payload(x={"y": y}), "x.y")


def test_a_refusal_never_shows_the_value() -> None:
    assert "hunter2" not in refused(push_payload(x={"y": "hunter2 $(x)"}), "x.y")


def test_a_value_that_no_rule_asks_for_may_hold_anything() -> None:
    assert read(push_payload(message="$(x)"), ParamRule("p", "branch")) == {"p": "master"}


@given(y=JSON_VALUES, default=st.none() | st.just("d"))
def test_no_param_ever_carries_what_tekton_would_expand(y: Any, default: str | None) -> None:
    params, error = attempted(lambda: read(push_payload(x={"y": y}), ParamRule("p", "x.y", default)))
    assert error is None or error.status == 400
    if params is not None:
        found = params["p"]
        assert "$(" not in json.dumps(found, ensure_ascii=False)
        texts = [found] if isinstance(found, str) else found if isinstance(found, list) else list(found.values())
        assert all(isinstance(text, str) for text in texts)


@given(ref=LEGAL_REFS)
def test_any_ref_is_a_param_as_it_is_unless_tekton_would_expand_it(ref: str) -> None:
    if "$(" in ref:
        assert refused(push_payload(ref=ref), "ref")
    else:
        assert value(push_payload(ref=ref), "ref") == ref


@pytest.mark.parametrize("source", [*OWN_NAMES, "repository.id", "a.b.c", "a-b._c.1"])
def test_a_good_source_is_a_name_or_a_path(source: str) -> None:
    assert check_source(source) is None


@pytest.mark.parametrize("source", ["", "sha", "Branch", "a..b", ".a", "a.", "a.*", "a.b[0]", "$.a", "a. b", "a.b\n"])
def test_a_bad_source_is_told_what_to_write_instead(source: str) -> None:
    assert "repository.default_branch" in str(check_source(source))


def test_a_default_must_not_hold_what_tekton_would_expand() -> None:
    assert check_default(None) is check_default("x") is check_default(["a", "$"]) is check_default({"a": "b"}) is None
    for bad in ("$(x)", ["a", "$(x)"], {"a": "$(x)"}, {"$(x)": "a"}):
        assert "`$(`" in str(check_default(bad))


def test_a_reader_names_what_it_fills() -> None:
    reader = ParamReader([ParamRule("a", "branch"), ParamRule("b", "repository.id")])
    assert [rule.name for rule in reader.rules] == ["a", "b"]


def test_commits_do_not_slow_a_reader_that_wants_none() -> None:
    payload = push_payload(commits=[commit(object_id()) for _ in range(3)])
    assert value(payload, "repository.name") == "striv"
