"""Push payloads of our own making, in GitHub's shape."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Any

REPOSITORY = "bittrance/striv"
REPOSITORY_ID = 347122219
ZERO = "0" * 40


def sha(text: str) -> str:
    """Return 40 hex digits that look like a commit's."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def guid() -> str:
    """Return a new delivery id."""
    return str(uuid.uuid4())


def push(seed: str = "1", *, branch: str = "main", pushed_at: int | None = None, **changes: Any) -> dict[str, Any]:
    """Return a push of one commit to a branch; `seed` makes its commits, `changes` replace whole fields."""
    commit = {
        "id": sha(seed),
        "message": f"Change {seed}\n\nBecause.",
        "timestamp": "2026-11-02T10:20:30+01:00",
        "author": {"name": "Ada", "email": "ada@example.org", "username": "ada"},
        "added": [],
        "removed": [],
        "modified": ["striv/app.py"],
        "distinct": True,
    }
    before = sha("before " + seed)
    payload: dict[str, Any] = {
        "ref": f"refs/heads/{branch}",
        "before": before,
        "after": commit["id"],
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/{REPOSITORY}/compare/{before[:12]}...{sha(seed)[:12]}",
        "commits": [commit],
        "head_commit": commit,
        "repository": {
            "id": REPOSITORY_ID,
            "full_name": REPOSITORY,
            "pushed_at": int(time.time()) if pushed_at is None else pushed_at,
            "default_branch": "master",
        },
        "pusher": {"name": "ada", "email": "ada@example.org"},
        "sender": {"login": "ada", "id": 1, "type": "User"},
    }
    return {**payload, **changes}


def body(payload: dict[str, Any]) -> bytes:
    """Return a payload as GitHub sends it: compact JSON in UTF-8."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
