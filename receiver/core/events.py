"""What a delivery says: typed, partial decoding of GitHub's `push` and `ping` payloads.

Only the fields that decisions need are decoded, so a payload of 25 MB costs little, and new fields at GitHub
break nothing. Shapes: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
"""

from __future__ import annotations

import codecs
import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from receiver.core.filters import ChangedFiles, changed_files
from receiver.core.forms import payload_of_form
from receiver.core.refs import check_ref, is_object_id, is_zero_id
from receiver.errors import RejectedError

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
_T = TypeVar("_T")
_UTF8 = codecs.getincrementaldecoder("utf-8")
_SLICE_BYTES = 64 * 1024
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EVENT = re.compile(r"[a-z_]{1,64}")
_LONGEST_REF = 1_000  # characters; GitHub refuses names of more than 255 bytes (GH002)
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a database column and a label can hold; a wider number would fail only where it is stored."""
_FULL_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")


class Envelope(msgspec.Struct, frozen=True):
    """The unsigned headers of a delivery. Believe none of them: they name and explain, and never decide what runs."""

    event: str
    guid: str
    hook_id: int | None = None


class Push(msgspec.Struct, frozen=True):
    """The facts of one push, all from the signed body.

    `ref` is full, `branch` and `tag` are short and empty where the other applies; `before`, `after` and `head_sha` are 40
    or 64 hex digits; `pushed_at` is in seconds since 1970; `title` is the first line of the head commit's message.
    """

    repository: str
    repository_id: int
    ref: str
    before: str
    after: str
    head_sha: str
    created: bool
    deleted: bool
    forced: bool
    pushed_at: int | None
    compare: str
    pusher: str
    message: str
    installation_id: int | None
    changed: ChangedFiles

    @property
    def branch(self) -> str:
        """The short branch name, or an empty string for a tag."""
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else ""

    @property
    def tag(self) -> str:
        """The short tag name, or an empty string for a branch."""
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else ""

    @property
    def title(self) -> str:
        """The first line of the head commit's message."""
        return self.message.split("\n", 1)[0].strip()


class _Commit(msgspec.Struct):
    added: list[str] | None = None
    removed: list[str] | None = None
    modified: list[str] | None = None


class _HeadCommit(msgspec.Struct):
    id: str
    message: str = ""


class _Repository(msgspec.Struct):
    id: _Id
    full_name: str
    pushed_at: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | str | None = None


class _Pusher(msgspec.Struct):
    name: str | None = None


class _Installation(msgspec.Struct):
    id: _Id | None = None


class _Push(msgspec.Struct):
    ref: str
    before: str
    after: str
    repository: _Repository
    created: bool = False
    deleted: bool = False
    forced: bool = False
    compare: str | None = None
    head_commit: _HeadCommit | None = None
    pusher: _Pusher | None = None
    installation: _Installation | None = None


class _PushWithFiles(_Push):
    commits: list[_Commit] | None = None


class _NamedRepository(msgspec.Struct):
    full_name: str = ""


class _Anything(msgspec.Struct):
    repository: _NamedRepository | None = None


_plain = msgspec.json.Decoder(_Push)
_with_files = msgspec.json.Decoder(_PushWithFiles)
_anything = msgspec.json.Decoder(_Anything)
_NO_FILES = ChangedFiles(names=(), complete=False)


def read_envelope(*, event: str | None, guid: str | None, hook_id: str | None) -> Envelope:
    """Return the envelope of a delivery from its headers; raises RejectedError(400) when one is missing or garbage."""
    if event is None or not _EVENT.fullmatch(event):
        raise RejectedError(400, "event-header", "the X-GitHub-Event header is missing or is not an event's name")
    if guid is None or not _GUID.fullmatch(guid):
        raise RejectedError(400, "delivery-header", "the X-GitHub-Delivery header is missing or is not a GUID")
    known_hook = hook_id is not None and hook_id.isascii() and hook_id.isdigit() and len(hook_id) < 19
    return Envelope(event=event, guid=guid.lower(), hook_id=int(hook_id) if known_hook and hook_id else None)


def payload_of(body: bytes, content_type: str | None, content_encoding: str | None = None) -> bytes:
    """Return the JSON text of a verified body, from either of GitHub's two content types.

    Raises RejectedError: 415 for another media type or a compressed body, 400 for a form without `payload` or text
    that is not UTF-8.
    """
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        raise RejectedError(415, "content-encoding", "compressed bodies are not accepted; GitHub sends none")
    media_type, _, parameters = (content_type or "").partition(";")
    media_type = media_type.strip().lower()
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type not in (JSON, FORM) or charset not in ("", "utf-8", "utf8"):
        raise RejectedError(415, "content-type", f"the content type has to be {JSON} (better) or {FORM}, in UTF-8")
    payload = payload_of_form(body) if media_type == FORM else body
    _check_utf8(payload)
    return payload


def _check_utf8(payload: bytes) -> None:
    if payload.isascii():
        return
    decoder = _UTF8()
    try:
        # In slices, so that checking a payload of 25 MB does not need another 25 MB.
        for start in range(0, len(payload), _SLICE_BYTES):
            decoder.decode(payload[start : start + _SLICE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise RejectedError(400, "encoding", "the payload is not UTF-8 text") from error


def decode_push(payload: bytes, *, with_files: bool) -> Push:
    """Decode a push payload; `with_files` also reads the changed files, which only path filters need.

    Raises RejectedError(400) when it is not JSON or not a usable push: wrong types, ids that are not 40 or 64 lower-case
    hex digits, a ref that git would refuse.
    """
    decoded: _Push = _decoded(_with_files, payload) if with_files else _decoded(_plain, payload)
    check = check_ref(decoded.ref)
    if check is not None:
        raise RejectedError(400, "ref", f"`ref` is not a ref that git allows: {check}")
    if len(decoded.ref) > _LONGEST_REF:
        raise RejectedError(400, "ref", f"`ref` is longer than {_LONGEST_REF} characters")
    head = decoded.head_commit
    for name, value in (
        ("before", decoded.before),
        ("after", decoded.after),
        ("head_commit.id", head.id if head else decoded.after),
    ):
        if not is_object_id(value):
            raise RejectedError(400, "object-id", f"`{name}` is not 40 or 64 lower-case hex digits")
    _check_full_name(decoded.repository.full_name)
    deleted = decoded.deleted or is_zero_id(decoded.after)
    created = decoded.created or is_zero_id(decoded.before)
    # `after` of an annotated tag is the tag object; only head_commit names the commit that can be tested.
    head_sha = decoded.after if not decoded.ref.startswith("refs/tags/") else head.id if head else ""
    changed = _NO_FILES
    if isinstance(decoded, _PushWithFiles) and decoded.commits is not None:
        changed = changed_files(decoded.commits, created=created, forced=decoded.forced)
    return Push(
        repository=decoded.repository.full_name,
        repository_id=decoded.repository.id,
        ref=decoded.ref,
        before=decoded.before,
        after=decoded.after,
        head_sha=head_sha,
        created=created,
        deleted=deleted,
        forced=decoded.forced,
        pushed_at=_epoch(decoded.repository.pushed_at),
        compare=decoded.compare or "",
        pusher=(decoded.pusher.name if decoded.pusher else None) or "",
        message=head.message if head else "",
        installation_id=decoded.installation.id if decoded.installation else None,
        changed=changed,
    )


def named_repository(payload: bytes) -> str | None:
    """Return owner/name of the repository that any event is about, where it says so; raises RejectedError(400)."""
    event = _decoded(_anything, payload)
    if event.repository is None or not event.repository.full_name:
        return None
    _check_full_name(event.repository.full_name)
    return event.repository.full_name


def _check_full_name(name: str) -> None:
    if not _FULL_NAME.fullmatch(name):
        raise RejectedError(400, "repository", "`repository.full_name` is not owner/name")


def _decoded(decoder: msgspec.json.Decoder[_T], payload: bytes) -> _T:
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise RejectedError(400, "payload", f"the payload is not usable: {error}") from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise RejectedError(400, "json", "the payload is not valid JSON") from error


def _epoch(pushed_at: int | str | None) -> int | None:
    if pushed_at is None or isinstance(pushed_at, int):
        return pushed_at
    try:
        at = datetime.fromisoformat(pushed_at)
        # Without a zone it is UTC, wherever this runs: the time is part of what makes two pushes the same.
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise RejectedError(400, "payload", "`repository.pushed_at` is neither seconds nor an ISO 8601 time") from error
