"""Which refs git allows, and what an object id is."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiver.core.refs import check_ref, is_object_id, is_zero_id
from tests.support.needs import lacking


@pytest.fixture(scope="session")
def git() -> str:
    """The program itself, whose rules ours are compared with."""
    return shutil.which("git") or lacking("git is not installed, so its rules cannot be compared")


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "feature/a-b",
        "@",
        "a@b",
        "-a",
        "HEAD",
        "refs/heads/x",
        "a.b",
        "a.locks",
        "lock",
        "{a}",
        "a'\"$(b);&|<>!#%,=+`",
        "]",
        "über/\U0001f680",
        "e\u0301",
        "\x80",
    ],
)
def test_a_name_that_git_allows_is_good_as_branch_and_tag(name: str) -> None:
    assert check_ref(f"refs/heads/{name}") is None
    assert check_ref(f"refs/tags/{name}") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        ("a/", "empty"),
        ("/a", "empty"),
        ("a//b", "empty"),
        ("a b", "' '"),
        ("a\n", r"'\n'"),
        ("a\x00", r"'\x00'"),
        ("a\x7fb", r"'\x7f'"),
        ("a~1", "'~'"),
        ("a^", "'^'"),
        ("a:b", "':'"),
        ("a?", "'?'"),
        ("a*", "'*'"),
        ("a[b", "'['"),
        ("a\\b", r"'\\'"),
        ("a..b", "two dots"),
        ("a@{1}", "@{"),
        (".a", "begins with a dot"),
        ("a/.b", "begins with a dot"),
        ("a.lock", ".lock"),
        ("a.lock/b", ".lock"),
        ("a.", "ends with a dot"),
        ("a\ud800", "Unicode"),
    ],
)
def test_a_name_that_git_refuses_is_refused_with_the_reason(name: str, words: str) -> None:
    assert words in (check_ref(f"refs/heads/{name}") or "")
    assert words in (check_ref(f"refs/tags/{name}") or "")


@pytest.mark.parametrize("ref", ["", "main", "refs/heads", "refs/pull/1/head", "Refs/heads/a", " refs/heads/a"])
def test_a_ref_outside_branches_and_tags_is_refused(ref: str) -> None:
    assert "neither" in (check_ref(ref) or "")


PIECES = st.one_of(
    st.sampled_from(["/", ".", "..", "//", "/.", ".lock", "@", "@{", "{", "-", "~", "^", ":", "?", "*", "[", "]"]),
    st.sampled_from(["\\", " ", "a", "refs/heads/", "HEAD", "!", "$", "é", "\U0001f680", "\x1f", "\x7f", "\x80"]),
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(["refs/heads/", "refs/tags/"]), st.lists(PIECES, max_size=6).map("".join))
@example("refs/heads/", "a.lock/b")
@example("refs/heads/", "@")
@example("refs/tags/", "a/.")
def test_our_answer_is_that_of_git(git: str, prefix: str, name: str) -> None:
    ref = prefix + name
    answer = subprocess.run([git, "check-ref-format", ref], check=False)
    assert (check_ref(ref) is None) is (answer.returncode == 0)


# text() leaves surrogates out by itself, and without them everything can be encoded.
@given(st.lists(st.text(max_size=5) | st.characters(categories=["Cs"]), max_size=3).map("".join))
def test_any_text_gets_an_answer_and_a_good_one_can_be_encoded(text: str) -> None:
    for ref in (text, f"refs/heads/{text}"):
        assert check_ref(ref) is not None or ref.encode("utf-8")


@pytest.mark.parametrize("size", [40, 64])
def test_object_ids_are_40_or_64_lower_case_hex_digits(size: int) -> None:
    good = ("0123456789abcdef" * 4)[:size]
    assert is_object_id(good)
    assert is_object_id("0" * size)
    for bad in (
        good[1:],
        good + "0",
        good.upper(),
        "g" + good[1:],
        good + "\n",
        "\u0660" + good[1:],
        " " + good[1:],
    ):
        assert not is_object_id(bad)


@pytest.mark.parametrize("size", [40, 64])
def test_the_zero_id_is_40_or_64_zeros(size: int) -> None:
    assert is_zero_id("0" * size)
    for bad in ("0" * (size - 1), "0" * (size + 1), "0" * (size - 1) + "1", "0" * size + "\n", ""):
        assert not is_zero_id(bad)


@given(st.text("0123456789abcdef", max_size=70))
def test_every_zero_id_is_an_object_id(text: str) -> None:
    assert is_object_id(text) is (len(text) in (40, 64))
    assert not is_zero_id(text) or is_object_id(text)
