"""The Flask application without the front, where an error cannot hide behind an answer; and the filter patterns."""

from __future__ import annotations

import random
import time
from pathlib import Path

from receiver.core.filters import Patterns
from receiver.core.globs import GlobError
from receiver.core.refs import check_ref
from tests.fuzz import pushes
from tests.fuzz.tally import Tally
from tests.fuzz.wire import ANSWERS
from tests.support.http import Delivery
from tests.support.public import FlaskPlane
from tests.support.signing import delivery_headers

_PIECES = (
    "*",
    "**",
    "?",
    "+",
    "[",
    "]",
    "[a-z]",
    "[!a]",
    "!",
    "\\",
    "/",
    "a",
    "b",
    "é",
    ".",
    "{",
    "(",
    "|",
    "^",
    "$",
    "main",
)
_LETTERS = "ab/é.-*\\[]!\x00 \n\ud800"
_SLOW_SECONDS = 1.0
_FORM = "application/x-www-form-urlencoded"


def call_many(config: Path, *, seed: int, requests: int, tally: Tally) -> None:
    """Call the application with so many generated deliveries."""
    chance = random.Random(f"{seed}/inside")
    plane = FlaskPlane(config)
    plane.app.config["PROPAGATE_EXCEPTIONS"] = True
    try:
        for number in range(requests):
            if tally.has_seen_enough:
                return
            delivery = _delivery(chance)
            try:
                status = plane.deliver(delivery).status
            except Exception as error:  # noqa: BLE001 - each of them is what we look for
                tally.fail(f"[{seed}/inside #{number}] {error!r}\n  {delivery!r}"[:4_000])
            else:
                tally.seen[status] += 1
                if status not in ANSWERS:
                    tally.fail(f"[{seed}/inside #{number}] status {status}\n  {delivery!r}"[:4_000])
    finally:
        plane.close()


def _delivery(chance: random.Random) -> Delivery:
    body = pushes.body(chance)
    form = chance.random() < 0.15
    if form:
        body = pushes.form(chance, body)
    event = "push" if chance.random() < 0.9 else chance.choice(("ping", "issues"))
    headers = delivery_headers(body, event=event)
    if form:
        headers["Content-Type"] = _FORM
    if chance.random() < 0.1:
        name = chance.choice(list(headers))
        headers[name] = chance.choice(
            ("", "x" * 3_000, "\xff", "application/json;charset=\xe9", "sha256=", headers[name] + ", " + headers[name])
        )
    return Delivery(body, tuple(headers.items()))


def match_many(*, seed: int, patterns: int, tally: Tally) -> None:
    """Compile so many generated lists of patterns and match names against them: errors are GlobError, and nothing is slow."""
    chance = random.Random(f"{seed}/patterns")
    for number in range(patterns):
        if tally.has_seen_enough:
            return
        listed = [
            "".join(chance.choices(_PIECES, k=chance.choice((1, 3, 8, 40)))) for _ in range(chance.choice((1, 1, 3)))
        ]
        name = "".join(chance.choices(_LETTERS, k=chance.choice((0, 3, 30, 1_000))))
        began = time.perf_counter()
        try:
            check_ref("refs/heads/" + name)
            Patterns.compile(listed, kind="path" if chance.random() < 0.5 else "ref", negatable=True).select(name)
        except GlobError:
            tally.seen["refused"] += 1
        except Exception as error:  # noqa: BLE001 - as above
            tally.fail(f"[{seed}/patterns #{number}] {error!r}: {listed!r} on {name!r}")
        else:
            tally.seen["matched"] += 1
        if (seconds := time.perf_counter() - began) > _SLOW_SECONDS:
            tally.fail(f"[{seed}/patterns #{number}] took {seconds:.1f} s: {listed!r} on {name!r}")
