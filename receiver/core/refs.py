"""Refs and object ids, as git spells them."""

from __future__ import annotations

import re

BRANCH_PREFIX = "refs/heads/"
TAG_PREFIX = "refs/tags/"

_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ZERO_ID = re.compile(r"0{40}|0{64}")
_BAD_CHAR = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]")


def check_ref(ref: str) -> str | None:
    """Return why git would refuse this full name of a branch or tag, or None when it is a good one.

    The rules are those of `git check-ref-format`; beyond them the ref has to be under refs/heads/ or
    refs/tags/, and to be text that UTF-8 can hold.
    """
    if not ref.startswith((BRANCH_PREFIX, TAG_PREFIX)):
        return "it begins with neither refs/heads/ nor refs/tags/"
    if bad := _BAD_CHAR.search(ref):
        return f"it holds {bad[0]!r}" if bad[0].isascii() else "it is not valid Unicode"
    if ".." in ref:
        return "it holds two dots in a row"
    if "@{" in ref:
        return "it holds @{"
    if "//" in ref or ref.endswith("/"):
        return "a part between its slashes is empty"
    if "/." in ref:
        return "a part between its slashes begins with a dot"
    if ref.endswith(".lock") or ".lock/" in ref:
        return "a part between its slashes ends with .lock"
    if ref.endswith("."):
        return "it ends with a dot"
    return None


def is_object_id(text: str) -> bool:
    """Tell whether the text is a whole object id: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits."""
    return _OBJECT_ID.fullmatch(text) is not None


def is_zero_id(text: str) -> bool:
    """Tell whether the text is the id that stands for "no object": 40 or 64 zeros."""
    return _ZERO_ID.fullmatch(text) is not None
