"""Bodies that begin as valid pushes and are then spoilt."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

from tests.support.pushes import commit, deletion_payload, ping_payload, push_payload, tag_payload

_ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "\ud800",
    "\U0010ffff",
    "é" * 50,
    "a" * 5_000,
    "refs/heads/",
    "refs/heads/..",
    "refs/heads/a b",
    "refs/tags/v1\n",
    "refs/heads/ünï/cödé",
    "refs/pull/1/merge",
    "$(params.x)",
    "../../etc/passwd",
    "0" * 40,
    "f" * 64,
    "F" * 40,
    "[skip ci]",
    "skip-checks: true",
    "\u2028\r\n{}",
)
_ODD_VALUES: tuple[Any, ...] = (
    *_ODD_TEXTS,
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    1e308,
    [],
    {},
    [[]],
    [None],
    {"": None},
)
_BOM = b"\xef\xbb\xbf"


def payload(chance: random.Random) -> dict[str, Any]:
    """Return a payload in GitHub's shape."""
    kind = chance.randrange(10)
    after = f"{chance.getrandbits(160):040x}"
    if kind == 0:
        return deletion_payload("refs/heads/gone")
    if kind == 1:
        return tag_payload(f"v{chance.randrange(100)}", after=after, head_commit=commit(after))
    if kind == 2:
        return ping_payload()
    branch = chance.choice(("master", "gh-readonly-queue/master/pr-1", "feature/ü", "a/b/c", "x" * 200))
    return push_payload(
        ref=f"refs/heads/{branch}", message=chance.choice(("Add a task", "Skip\n\n[skip ci]")), after=after
    )


def body(chance: random.Random) -> bytes:
    """Return a body: as GitHub sends it, or with anything wrong from one value to all of its bytes."""
    value = payload(chance)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        _change(chance, value)
    text = _dumped(chance, value)
    return text if chance.random() < 0.7 else _spoilt(chance, text)


def form(chance: random.Random, text: bytes) -> bytes:
    """Return the text as a form, which is mostly right."""
    safe = chance.choice(("", "{}[]:,"))
    field = b"payload=" + quote_plus(text, safe=safe).encode()
    kind = chance.randrange(12)
    if kind == 0:
        return field + b"&" + field
    if kind == 1:
        return b"&".join([b"a=b"] * chance.randrange(1, 20)) + b"&" + field
    if kind == 2:
        return field[: chance.randrange(len(field))] + b"%"
    if kind == 3:
        return _spoilt(chance, field)
    return field


def _change(chance: random.Random, value: dict[str, Any]) -> None:
    place: Any = value
    while place:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if isinstance(inner, (dict, list)) and inner and chance.random() < 0.6:
            place = inner
            continue
        break
    if not place:
        return
    if isinstance(place, dict) and chance.random() < 0.2:
        del place[key]
    else:
        place[key] = copy.copy(chance.choice(_ODD_VALUES))


def _dumped(chance: random.Random, value: Any) -> bytes:
    as_ascii = chance.random() < 0.5
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=as_ascii)
    if chance.random() < 0.05:
        text = text.replace('"ref":', f'"ref":{json.dumps(chance.choice(_ODD_TEXTS))},"ref":', 1)
    return text.encode("utf-8", "surrogatepass")


def _spoilt(chance: random.Random, text: bytes) -> bytes:
    return chance.choice(_SPOILERS)(chance, text, chance.randrange(len(text) + 1))


def _flipped(chance: random.Random, text: bytes, _at: int) -> bytes:
    flipped = bytearray(text or b"x")
    for _ in range(chance.randrange(1, 6)):
        flipped[chance.randrange(len(flipped))] = chance.randrange(256)
    return bytes(flipped)


def _deep(chance: random.Random, _text: bytes, _at: int) -> bytes:
    depth = chance.choice((100, 1_000, 20_000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return b'{"ref":' + opening * depth + b"1" + closing * depth + b"}"


def _recoded(chance: random.Random, text: bytes, _at: int) -> bytes:
    other = chance.choice(("utf-16", "utf-32", "utf-7", "latin-1"))
    return text.decode("utf-8", "replace").encode(other, "replace")


_SPOILERS: tuple[Callable[[random.Random, bytes, int], bytes], ...] = (
    _flipped,
    _deep,
    _recoded,
    lambda _, text, at: text[:at],
    lambda chance, text, at: text[:at] + chance.randbytes(chance.randrange(1, 20)) + text[at:],
    lambda _, text, at: text[:at] + b"\\ud800" + text[at:],
    lambda _chance, text, _at: _BOM + text,
    lambda _chance, text, _at: text + text,
    lambda _chance, text, _at: text.replace(b'"', b"'"),
    lambda chance, _text, _at: chance.randbytes(chance.choice((0, 1, 100, 10_000))),
    lambda chance, _text, _at: b'{"ref":"' + b"\\u" * chance.randrange(1, 100) + b'"}',
    lambda chance, text, _at: text[:1] + b'"a":' + b"9" * chance.choice((20, 400, 5_000)) + b"," + text[1:],
)
