"""Push payloads in GitHub's shape: only what a test cares about has to be said, and no two are the same push.

Shape: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

REPOSITORY = "bittrance/striv"
REPOSITORY_ID = 214_748_365
ZERO = "0" * 40
OFFICIAL = Path(__file__).resolve().parents[2].parent / "shared" / "payloads"
"""GitHub's own examples, where somebody has put them beside the checkout."""

_numbers = itertools.count(1)


def object_id(seed: object = None, *, length: int = 40) -> str:
    """Return an object id: of `seed` always the same one, without a seed each time another."""
    text = f"object {next(_numbers)}" if seed is None else f"seed {seed}"
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def commit(sha: str, message: str = "Add a task", **files: Sequence[str]) -> dict[str, Any]:
    """Return a commit as it stands in `commits` and `head_commit`."""
    person = {"name": "Mona Lisa", "email": "mona@example.org", "username": "mona"}
    return {
        "id": sha,
        "tree_id": object_id(f"tree of {sha}"),
        "distinct": True,
        "message": message,
        "timestamp": "2026-10-01T12:00:00+02:00",
        "url": f"https://github.com/{REPOSITORY}/commit/{sha}",
        "author": person,
        "committer": person,
        "added": list(files.get("added", ())),
        "removed": list(files.get("removed", ())),
        "modified": list(files.get("modified", ("README.md",))),
    }


def push_payload(
    *,
    ref: str = "refs/heads/master",
    before: str | None = None,
    after: str | None = None,
    repository: str = REPOSITORY,
    repository_id: int = REPOSITORY_ID,
    message: str = "Add a task",
    head_commit: dict[str, Any] | None = None,
    commits: list[dict[str, Any]] | None = None,
    pushed_at: int | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return a push of one commit; `fields` replaces or adds whatever else belongs at the top."""
    after = object_id() if after is None else after
    before = object_id("before") if before is None else before
    head = commit(after, message) if head_commit is None else head_commit
    owner, _, name = repository.partition("/")
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "repository": {
            "id": repository_id,
            "name": name,
            "full_name": repository,
            "private": False,
            "owner": {"name": owner, "login": owner, "id": 42},
            "html_url": f"https://github.com/{repository}",
            "clone_url": f"https://github.com/{repository}.git",
            "created_at": 1_570_000_000,
            "pushed_at": int(time.time()) if pushed_at is None else pushed_at,
            "default_branch": "master",
        },
        "pusher": {"name": "mona", "email": "mona@example.org"},
        "sender": {"login": "mona", "id": 7, "type": "User"},
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/{repository}/compare/{before[:12]}...{after[:12]}",
        "commits": [head] if commits is None else commits,
        "head_commit": head,
        **fields,
    }


def seeded_push(
    seed: str = "1", *, branch: str = "main", pushed_at: int | None = None, **fields: Any
) -> dict[str, Any]:
    """Return a push of one commit to a branch, of the same `seed` always the same one; `fields` replaces what is at the top.

    Its head commit stays that of the seed, whatever `fields` says of `after`.
    """
    payload = push_payload(
        ref=f"refs/heads/{branch}",
        before=object_id(f"before {seed}"),
        after=object_id(seed),
        message=f"Change {seed}\n\nBecause.",
        pushed_at=pushed_at,
    )
    return {**payload, **fields}


def deletion_payload(ref: str = "refs/heads/old") -> dict[str, Any]:
    """Return the payload of a deleted ref."""
    return {**push_payload(ref=ref, after=ZERO, deleted=True, commits=[]), "head_commit": None}


def tag_payload(tag: str = "v1.2.3", **fields: Any) -> dict[str, Any]:
    """Return the push of an annotated tag: `after` is the tag object, only `head_commit.id` is a commit."""
    head = fields.pop("head_commit", None) or commit(object_id())
    return push_payload(
        ref=f"refs/tags/{tag}", before=ZERO, created=True, head_commit=head, **{"commits": [], **fields}
    )


def ping_payload(repository: str = REPOSITORY) -> dict[str, Any]:
    """Return the payload of a ping."""
    return {
        "zen": "Design for failure.",
        "hook_id": 30,
        "hook": {"type": "Repository", "id": 30, "active": True, "events": ["push"]},
        "repository": {"id": REPOSITORY_ID, "full_name": repository},
    }


def encoded(payload: Any) -> bytes:
    """Return the payload as GitHub sends it: compact JSON in UTF-8."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def as_form(body: bytes) -> bytes:
    """Return the body that GitHub sends for the same payload with content type form."""
    return urlencode({"payload": body}).encode()
