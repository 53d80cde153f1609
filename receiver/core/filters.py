"""Which pushes a trigger wants: the filters of GitHub Actions' `on: push`, same keys and same answers.

Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax, `on.push`. Names
are compared exactly: upper and lower case differ, and nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from receiver.core.globs import GlobError, matcher
from receiver.core.refs import BRANCH_PREFIX, TAG_PREFIX

Reason = Literal["matched", "branch-filtered", "tag-filtered", "path-filtered", "not-a-branch-or-tag"]

MOST_FILES = 300  # GitHub looks at so many files of a diff and no further.
MOST_COMMITS = 1000  # From here on GitHub runs without looking at paths.

_Rule = tuple[Callable[[str], bool], str, bool]  # matches, the pattern, takes (or excludes)


class FilterError(GlobError):
    """Filters that are wrong as a whole, though each pattern may be good; `key` says which."""

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}" if self.key else self.reason


@dataclass(frozen=True, slots=True)
class Patterns:
    """One ordered list of patterns; the last one that matches a name decides."""

    patterns: tuple[str, ...]
    # From the last pattern to the first, so that the first match found is the one that decides.
    _rules: tuple[_Rule, ...] = field(repr=False, compare=False)

    @classmethod
    def compile(cls, patterns: Sequence[str], *, kind: Literal["ref", "path"], negatable: bool) -> Patterns:
        """Compile a list; `negatable` is False for the `*-ignore` lists, which take no `!`.

        Raises GlobError for a bad pattern, and its kind FilterError for a list that is empty or
        only excludes.
        """
        if isinstance(patterns, str):
            raise TypeError("patterns are a list of texts, not one text")
        rules: list[_Rule] = []
        for index, pattern in enumerate(patterns):
            try:
                rules.append(_rule(pattern, kind, negatable))
            except GlobError as error:
                error.index = index
                raise
        if not any(takes for _, _, takes in rules):
            first = next(iter(patterns), "")
            what = "only excludes" if rules else "is empty"
            instead = "list a pattern without `!` before, such as '**'" if rules else "fill it or leave it out"
            raise FilterError(pattern=first, reason=f"the list {what}, so nothing could ever match; {instead}")
        return cls(tuple(patterns), tuple(reversed(rules)))

    def select(self, name: str) -> bool:
        """Tell whether the list takes the name: the last pattern that matches decides, and no match means no.

        For an ignore list True means that the name is to be ignored.
        """
        for matches, _, takes in self._rules:
            if matches(name):
                return takes
        return False

    def deciding(self, name: str) -> str | None:
        """Return the pattern that decides about the name, `!` included, or None when none matches."""
        for matches, pattern, _ in self._rules:
            if matches(name):
                return pattern
        return None


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """The files that a push changed, by their path from the repository's root.

    When `complete` is False there may be more than `names` says, and path filters let the push run.
    """

    names: tuple[str, ...]
    complete: bool


class CommitFiles(Protocol):
    """The file lists of one commit of a push payload; None where the payload has none."""

    @property
    def added(self) -> Sequence[str] | None:
        """The files that are new."""

    @property
    def removed(self) -> Sequence[str] | None:
        """The files that are gone."""

    @property
    def modified(self) -> Sequence[str] | None:
        """The files whose content changed."""


def changed_files(commits: Sequence[CommitFiles], *, created: bool, forced: bool) -> ChangedFiles:
    """Gather the changed files from the commits of a push payload.

    The result is incomplete, with no names, where the payload cannot be trusted to list all: a created ref, a
    forced push, 1000 commits and more (the payload ends at 2048), a commit without files (GitHub leaves the
    lists out or empty when a commit is huge), more than 300 files.
    """
    incomplete = ChangedFiles(names=(), complete=False)
    if created or forced or len(commits) >= MOST_COMMITS:
        return incomplete
    names: dict[str, None] = {}
    for commit in commits:
        added, removed, modified = commit.added, commit.removed, commit.modified
        if added is None or removed is None or modified is None or not (added or removed or modified):
            return incomplete
        for listed in (added, removed, modified):
            names.update(dict.fromkeys(listed))
        if len(names) > MOST_FILES:
            return incomplete
    return ChangedFiles(names=tuple(names), complete=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the filters say; `reason` is a short machine word, `detail` a phrase that names what decided."""

    matched: bool
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class PushFilter:
    """The filters of one trigger; None is a key that was not written. Build it with `build`."""

    branches: Patterns | None
    branches_ignore: Patterns | None
    tags: Patterns | None
    tags_ignore: Patterns | None
    paths: Patterns | None
    paths_ignore: Patterns | None

    @classmethod
    def build(
        cls,
        *,
        branches: Sequence[str] | None = None,
        branches_ignore: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        tags_ignore: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        paths_ignore: Sequence[str] | None = None,
    ) -> PushFilter:
        """Compile the lists.

        Raises GlobError for a bad pattern (`key` and `index` say where), and its kind FilterError for a list
        that can match nothing, or for a list and its ignore list together.
        """
        for key, including, ignoring in (
            ("branches", branches, branches_ignore),
            ("tags", tags, tags_ignore),
            ("paths", paths, paths_ignore),
        ):
            if including is not None and ignoring is not None:
                reason = f"{key} and {key}-ignore exclude each other; keep {key} and put `!` patterns there"
                raise FilterError(pattern="", reason=reason, key=f"{key}-ignore")
        return cls(
            branches=_compile("branches", branches, "ref"),
            branches_ignore=_compile("branches-ignore", branches_ignore, "ref"),
            tags=_compile("tags", tags, "ref"),
            tags_ignore=_compile("tags-ignore", tags_ignore, "ref"),
            paths=_compile("paths", paths, "path"),
            paths_ignore=_compile("paths-ignore", paths_ignore, "path"),
        )

    def decide(self, *, ref: str, changed_files: ChangedFiles) -> Verdict:
        """Say whether a push to the full `ref` is wanted; deletions are the caller's matter.

        Branches and paths have to agree. Path filters are not asked about tags. When only tags are listed no
        branch is wanted, and the other way round.
        """
        lists_branches = self.branches is not None or self.branches_ignore is not None
        lists_tags = self.tags is not None or self.tags_ignore is not None
        if ref.startswith(BRANCH_PREFIX):
            if lists_tags and not lists_branches:
                return Verdict(False, "branch-filtered", "only tags are listed, so no branch is wanted")
            name = ref[len(BRANCH_PREFIX) :]
            matched, detail = _by_name("branch", "branches", name, self.branches, self.branches_ignore)
            if not matched:
                return Verdict(False, "branch-filtered", detail)
            if self.paths is None and self.paths_ignore is None:
                return Verdict(True, "matched", detail)
            matched, path_detail = _by_path(self.paths, self.paths_ignore, changed_files)
            return Verdict(matched, "matched" if matched else "path-filtered", f"{detail}; {path_detail}")
        if ref.startswith(TAG_PREFIX):
            if lists_branches and not lists_tags:
                return Verdict(False, "tag-filtered", "only branches are listed, so no tag is wanted")
            name = ref[len(TAG_PREFIX) :]
            matched, detail = _by_name("tag", "tags", name, self.tags, self.tags_ignore)
            return Verdict(matched, "matched" if matched else "tag-filtered", detail)
        return Verdict(False, "not-a-branch-or-tag", f"{ref!r} is under neither refs/heads/ nor refs/tags/")


def _rule(pattern: str, kind: Literal["ref", "path"], negatable: bool) -> _Rule:
    excludes = pattern.startswith("!")
    matches = matcher(pattern, kind=kind)
    if excludes and not negatable:
        reason = "an ignore list takes no `!`; use the key without -ignore, or `\\!` for the character itself"
        raise GlobError(pattern=pattern, reason=reason)
    return matches, pattern, not excludes


def _compile(key: str, patterns: Sequence[str] | None, kind: Literal["ref", "path"]) -> Patterns | None:
    if patterns is None:
        return None
    try:
        return Patterns.compile(patterns, kind=kind, negatable=not key.endswith("-ignore"))
    except GlobError as error:
        error.key = key
        raise


def _by_name(what: str, key: str, name: str, including: Patterns | None, ignoring: Patterns | None) -> tuple[bool, str]:
    if including is not None:
        pattern = including.deciding(name)
        if pattern is None:
            return False, f"{what} {name!r} matches no pattern of {key}"
        if pattern[0] == "!":
            return False, f"{what} {name!r} is excluded by {pattern!r} in {key}"
        return True, f"{what} {name!r} matches {pattern!r} in {key}"
    if ignoring is not None:
        pattern = ignoring.deciding(name)
        if pattern is not None:
            return False, f"{what} {name!r} matches {pattern!r} in {key}-ignore"
        return True, f"{what} {name!r} matches no pattern of {key}-ignore"
    return True, f"every {what} is wanted"


def _by_path(including: Patterns | None, ignoring: Patterns | None, changed: ChangedFiles) -> tuple[bool, str]:
    if not changed.complete:
        return True, "the list of changed files may be incomplete, so path filters hold nothing back"
    if not changed.names:
        return False, "no file was changed, and path filters want one"
    if including is not None:
        for name in changed.names:
            if including.select(name):
                return True, f"file {name!r} matches {including.deciding(name)!r} in paths"
        return False, f"paths takes none of the changed files ({len(changed.names)})"
    for name in changed.names:
        if ignoring is not None and not ignoring.select(name):
            return True, f"file {name!r} matches no pattern of paths-ignore"
    return False, f"paths-ignore takes all of the changed files ({len(changed.names)})"


__all__ = [
    "ChangedFiles",
    "CommitFiles",
    "FilterError",
    "GlobError",
    "Patterns",
    "PushFilter",
    "Reason",
    "Verdict",
    "changed_files",
]
