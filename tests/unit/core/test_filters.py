"""Which pushes a filter wants, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.filters import (
    ChangedFiles,
    FilterError,
    GlobError,
    Patterns,
    PushFilter,
    Verdict,
    changed_files,
)

UNKNOWN = ChangedFiles(names=(), complete=False)
BRANCH, TAG = "refs/heads/trunk", "refs/tags/v1"


@dataclass(frozen=True)
class Commit:
    """The part of a commit that the filters read."""

    added: Sequence[str] | None = ()
    removed: Sequence[str] | None = ()
    modified: Sequence[str] | None = ()


def files(*names: str) -> ChangedFiles:
    return ChangedFiles(names=names, complete=True)


def decide(ref: str, changed: ChangedFiles = UNKNOWN, **lists: list[str]) -> Verdict:
    return PushFilter.build(**lists).decide(ref=ref, changed_files=changed)


@pytest.mark.parametrize(
    ("lists", "branch", "tag"),
    [
        ({}, "matched", "matched"),
        ({"branches": ["trunk"]}, "matched", "tag-filtered"),
        ({"branches": ["dev"]}, "branch-filtered", "tag-filtered"),
        ({"branches_ignore": ["dev"]}, "matched", "tag-filtered"),
        ({"branches_ignore": ["tr*"]}, "branch-filtered", "tag-filtered"),
        ({"tags": ["v*"]}, "branch-filtered", "matched"),
        ({"tags": ["x"]}, "branch-filtered", "tag-filtered"),
        ({"tags_ignore": ["x"]}, "branch-filtered", "matched"),
        ({"tags_ignore": ["v*"]}, "branch-filtered", "tag-filtered"),
        ({"branches": ["trunk"], "tags": ["v*"]}, "matched", "matched"),
        ({"branches": ["dev"], "tags": ["v*"]}, "branch-filtered", "matched"),
        ({"branches": ["trunk"], "tags_ignore": ["v*"]}, "matched", "tag-filtered"),
        ({"branches_ignore": ["trunk"], "tags": ["x"]}, "branch-filtered", "tag-filtered"),
        ({"paths": ["docs/**"]}, "path-filtered", "matched"),
        ({"paths_ignore": ["src/**"]}, "path-filtered", "matched"),
        ({"branches": ["trunk"], "paths": ["src/*"]}, "matched", "tag-filtered"),
        ({"branches": ["trunk"], "paths": ["docs/*"]}, "path-filtered", "tag-filtered"),
        ({"branches": ["dev"], "paths": ["src/*"]}, "branch-filtered", "tag-filtered"),
        ({"tags": ["v*"], "paths": ["docs/*"]}, "branch-filtered", "matched"),
    ],
)
def test_which_lists_are_written_says_which_refs_are_wanted(lists: dict[str, list[str]], branch: str, tag: str) -> None:
    changed = files("src/a.py")
    for ref, reason in ((BRANCH, branch), (TAG, tag)):
        verdict = decide(ref, changed, **lists)
        assert verdict.reason == reason
        assert verdict.matched is (reason == "matched")


def test_a_ref_that_is_neither_branch_nor_tag_is_not_wanted() -> None:
    for ref in ("refs/pull/1/head", "trunk", "refs/notes/commits", "refs/headstrong/x"):
        verdict = decide(ref)
        assert (verdict.matched, verdict.reason) == (False, "not-a-branch-or-tag")
        assert ref in verdict.detail


def test_the_prefix_of_a_ref_is_taken_off_once() -> None:
    ref = "refs/heads/refs/heads/x"
    assert decide(ref, branches=["refs/heads/x"]).matched
    assert not decide(ref, branches=["x"]).matched


def test_branch_and_tag_of_one_name_are_told_apart() -> None:
    assert decide("refs/heads/v1", branches=["v1"], tags=["x"]).matched
    assert not decide("refs/tags/v1", branches=["v1"], tags=["x"]).matched


def test_upper_and_lower_case_differ() -> None:
    assert not decide("refs/heads/Trunk", branches=["trunk"]).matched


@pytest.mark.parametrize(
    ("lists", "changed", "matched"),
    [
        ({"paths": ["*.py"]}, files("a.md", "b.py"), True),
        ({"paths": ["*.py"]}, files("a.md", "c/b.py"), False),
        ({"paths": ["**", "!docs/**"]}, files("docs/a"), False),
        ({"paths": ["**", "!docs/**"]}, files("docs/a", "b"), True),
        ({"paths_ignore": ["*.md"]}, files("a.md", "b.py"), True),
        ({"paths_ignore": ["*.md"]}, files("a.md", "b.md"), False),
        ({"paths": ["*.py"]}, files(), False),
        ({"paths_ignore": ["*.md"]}, files(), False),
        ({"paths": ["*.py"]}, UNKNOWN, True),
        ({"paths_ignore": ["**"]}, UNKNOWN, True),
        ({"paths": ["*.py"]}, ChangedFiles(names=("a.md",), complete=False), True),
        ({}, files(), True),
        ({"branches": ["trunk"]}, files(), True),
    ],
)
def test_path_filters_want_one_file_that_survives_them(
    lists: dict[str, list[str]], changed: ChangedFiles, matched: bool
) -> None:
    assert decide(BRANCH, changed, **lists).matched is matched


@pytest.mark.parametrize(
    ("verdict", "detail"),
    [
        (decide(BRANCH), "every branch is wanted"),
        (decide(TAG), "every tag is wanted"),
        (decide(BRANCH, branches=["tr*"]), "branch 'trunk' matches 'tr*' in branches"),
        (decide(BRANCH, branches=["x"]), "branch 'trunk' matches no pattern of branches"),
        (decide(BRANCH, branches=["*", "!tr*"]), "branch 'trunk' is excluded by '!tr*' in branches"),
        (decide(BRANCH, branches_ignore=["tr*"]), "branch 'trunk' matches 'tr*' in branches-ignore"),
        (decide(BRANCH, branches_ignore=["x"]), "branch 'trunk' matches no pattern of branches-ignore"),
        (decide(TAG, tags=["v2"]), "tag 'v1' matches no pattern of tags"),
        (decide(TAG, branches=["**"]), "only branches are listed, so no tag is wanted"),
        (decide(BRANCH, tags=["**"]), "only tags are listed, so no branch is wanted"),
        (
            decide(BRANCH, files("b", "a.py"), paths=["*.py"]),
            "every branch is wanted; file 'a.py' matches '*.py' in paths",
        ),
        (
            decide(BRANCH, files("a", "b"), paths=["*.py"]),
            "every branch is wanted; paths takes none of the changed files (2)",
        ),
        (
            decide(BRANCH, files("a", "b"), paths_ignore=["a"]),
            "every branch is wanted; file 'b' matches no pattern of paths-ignore",
        ),
        (
            decide(BRANCH, files("a"), paths_ignore=["a"]),
            "every branch is wanted; paths-ignore takes all of the changed files (1)",
        ),
        (
            decide(BRANCH, files(), paths=["a"]),
            "every branch is wanted; no file was changed, and path filters want one",
        ),
        (
            decide(BRANCH, UNKNOWN, paths=["a"]),
            "every branch is wanted; the list of changed files may be incomplete, so path filters hold nothing back",
        ),
    ],
)
def test_the_detail_names_what_decided(verdict: Verdict, detail: str) -> None:
    assert verdict.detail == detail


@pytest.mark.parametrize("key", ["branches", "tags", "paths"])
def test_a_list_and_its_ignore_list_exclude_each_other(key: str) -> None:
    lists: dict[str, Any] = {key: ["a"], f"{key}_ignore": ["b"]}
    with pytest.raises(FilterError, match=f"{key}-ignore") as caught:
        PushFilter.build(**lists)
    assert caught.value.key == f"{key}-ignore"


@pytest.mark.parametrize("key", ["branches", "tags", "paths"])
@pytest.mark.parametrize("patterns", [[], ["!a"], ["!a", "!b/**"]])
def test_a_list_that_can_match_nothing_is_refused(key: str, patterns: list[str]) -> None:
    lists: dict[str, Any] = {key: patterns}
    with pytest.raises(FilterError, match="nothing could ever match") as caught:
        PushFilter.build(**lists)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: ")


@pytest.mark.parametrize("key", ["branches", "tags", "paths"])
def test_an_ignore_list_takes_no_exclamation_mark(key: str) -> None:
    lists: dict[str, Any] = {f"{key}_ignore": ["a", "!b"]}
    with pytest.raises(GlobError, match="ignore list") as caught:
        PushFilter.build(**lists)
    assert not isinstance(caught.value, FilterError)
    assert (caught.value.key, caught.value.index, caught.value.position) == (f"{key}-ignore", 1, 0)


def test_a_literal_exclamation_mark_is_good_in_an_ignore_list() -> None:
    assert not decide("refs/heads/!x", branches_ignore=[r"\!x"]).matched


def test_a_bad_pattern_in_a_filter_is_refused_with_key_index_and_position() -> None:
    with pytest.raises(GlobError) as caught:
        PushFilter.build(branches=["trunk"], tags_ignore=["v1", "v[0-9"])
    error = caught.value
    assert (error.key, error.index, error.pattern, error.position) == ("tags-ignore", 1, "v[0-9", 1)
    assert str(error).startswith("tags-ignore: pattern 'v[0-9', character 2: ")


def test_refs_and_paths_have_rules_of_their_own() -> None:
    assert decide(BRANCH, files("a b/c."), paths=["a b/c."]).matched
    with pytest.raises(GlobError):
        PushFilter.build(branches=["a b"])


def test_one_text_instead_of_a_list_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="list"):
        Patterns.compile("trunk", kind="ref", negatable=True)


def test_equal_lists_make_equal_filters() -> None:
    assert PushFilter.build(branches=["a", "!b"]) == PushFilter.build(branches=("a", "!b"))
    assert PushFilter.build(branches=["a"]) != PushFilter.build(branches=["b"])


def gather(*commits: Commit, created: bool = False, forced: bool = False) -> ChangedFiles:
    return changed_files(commits, created=created, forced=forced)


def test_changed_files_are_those_of_all_commits_each_once() -> None:
    changed = gather(Commit(added=["a"], modified=["b"]), Commit(removed=["c"], modified=["a"]))
    assert changed == files("a", "b", "c")


def test_a_push_without_commits_changed_nothing() -> None:
    assert gather() == files()


@pytest.mark.parametrize(
    "changed",
    [
        gather(Commit(added=["a"]), created=True),
        gather(Commit(added=["a"]), forced=True),
        gather(created=True),
        gather(*[Commit(added=["a"])] * 1000),
        gather(*[Commit(added=["a"])] * 2048),
        gather(Commit(added=["a"]), Commit(added=["b"], removed=None)),
        gather(Commit(added=["a"], modified=None)),
        gather(Commit(added=None, modified=["a"])),
        gather(Commit(added=["a"]), Commit()),
        gather(Commit(added=[f"{n}" for n in range(301)])),
        gather(Commit(added=[f"{n}" for n in range(200)]), Commit(removed=[f"x{n}" for n in range(200)])),
    ],
)
def test_a_payload_that_may_leave_files_out_is_incomplete(changed: ChangedFiles) -> None:
    assert changed == UNKNOWN


def test_just_within_the_limits_the_list_is_complete() -> None:
    assert gather(*[Commit(added=["a"])] * 999) == files("a")
    assert gather(Commit(added=[f"{n}" for n in range(300)])).complete


NAMES = st.text("ab/-.", min_size=1, max_size=8)
PATTERNS = st.lists(st.sampled_from(["**", "*", "a*", "**b", "a/**", "ab"]), min_size=1, max_size=4)
CHANGED = st.builds(ChangedFiles, names=st.lists(NAMES, max_size=4).map(tuple), complete=st.booleans())


@given(PATTERNS, NAMES)
def test_ignoring_is_the_opposite_of_listing_for_refs(patterns: list[str], name: str) -> None:
    ref = f"refs/heads/{name}"
    assert decide(ref, branches=patterns).matched is not decide(ref, branches_ignore=patterns).matched


@given(PATTERNS, NAMES)
def test_excluding_by_exclamation_marks_is_the_same_as_ignoring(patterns: list[str], name: str) -> None:
    ref = f"refs/heads/{name}"
    excluding = ["**", *(f"!{pattern}" for pattern in patterns)]
    assert decide(ref, branches=excluding).matched is decide(ref, branches_ignore=patterns).matched


@given(PATTERNS, CHANGED)
def test_a_push_whose_files_are_all_ignored_would_match_a_list_of_them(
    patterns: list[str], changed: ChangedFiles
) -> None:
    if not decide(BRANCH, changed, paths_ignore=patterns).matched and changed.names:
        assert decide(BRANCH, changed, paths=patterns).matched


@given(PATTERNS, PATTERNS, NAMES, CHANGED)
def test_branch_and_path_filters_have_to_agree(
    branches: list[str], paths: list[str], name: str, changed: ChangedFiles
) -> None:
    ref = f"refs/heads/{name}"
    both = decide(ref, changed, branches=branches, paths=paths).matched
    assert both is (decide(ref, branches=branches).matched and decide(ref, changed, paths=paths).matched)
