"""What makes two pushes the same push, two jobs the same job, and the name of a run.

Only signed content goes into the keys, so no header can make an old body look new. The one exception is named as such:
the delivery's GUID may *join* two deliveries of equal content, it can never separate or replace that content.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache

from receiver.core.events import Push

NAME_LENGTH = 29
"""PipelineRun names up to this length leave the names of pods readable (`kmeta.ChildName` cuts at 63)."""
_HASH_LENGTH = 20  # base32 characters, 5 bits each: 100 bits
_HASH_BYTES = 15  # the least multiple of base32's 5 bytes that gives so many


@dataclass(frozen=True, slots=True)
class PushKeys:
    """Two digests of 32 bytes; pushes that share one of them are the same push."""

    by_time: bytes
    by_guid: bytes


def push_keys(push: Push, guid: str) -> PushKeys:
    """Return the keys of a push: repository's name and id, ref, before, after, and `pushed_at` or else the GUID.

    The name is what a secret signs for. By the id alone, whoever holds the secret of one repository could take the places of
    another's pushes. Case does not matter to GitHub.
    """
    content = (push.repository.lower(), str(push.repository_id), push.ref, push.before, push.after)
    pushed_at = "" if push.pushed_at is None else str(push.pushed_at)
    return PushKeys(by_time=_digest("pushed_at", *content, pushed_at), by_guid=_digest("guid", *content, guid))


@lru_cache(maxsize=1_024)
def job_key(push_key: bytes, trigger: str, generation: int) -> bytes:
    """Return the 32 bytes that stand for one push, one trigger and one generation (the first is 1)."""
    return _digest("job", push_key.hex(), trigger, str(generation))


def is_job_of(push: Push, *, key: bytes, push_key: bytes, trigger: str, generation: int) -> bool:
    """Tell whether a job's key is made of all that it stands for: this push by its content, this trigger, this generation.

    Of a push that was stored before names went into keys, by what the key was made of then. Such a key is only recognised: no
    delivery is looked up by it, so it takes nobody's place.
    """
    return push_key in _ever(push) and key == job_key(push_key, trigger, generation)


def _ever(push: Push) -> tuple[bytes, bytes]:
    pushed_at = "" if push.pushed_at is None else str(push.pushed_at)
    without_name = _digest("pushed_at", str(push.repository_id), push.ref, push.before, push.after, pushed_at)
    return push_keys(push, "").by_time, without_name


def run_name(prefix: str, key: bytes, *, salt: int = 0) -> str:
    """Return the run's name for the job `key`: the prefix and 100 bits, at most 29 characters.

    `salt` is 0 but for a job whose name a foreign object has taken. Raises ValueError when the prefix leaves no room.
    """
    if len(prefix) + _HASH_LENGTH > NAME_LENGTH:
        raise ValueError(f"the prefix `{prefix}` is longer than {NAME_LENGTH - _HASH_LENGTH} characters")
    digest = _digest("name", key.hex(), str(salt))
    return prefix + base64.b32encode(digest[:_HASH_BYTES]).decode("ascii").lower()[:_HASH_LENGTH]


def _digest(kind: str, *parts: str) -> bytes:
    # No part can hold a NUL: refs, ids and GUIDs are checked before they get here, trigger names by the settings.
    return hashlib.sha256("\0".join((kind, *parts)).encode()).digest()
