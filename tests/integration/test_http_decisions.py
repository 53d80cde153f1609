"""The HTTP contract, 200 and 202: what is heard and starts nothing, and what will run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.integration.conftest import OTHER_SECRET
from tests.support.deliveries import (
    Build,
    changed,
    delivery_of,
    guid_of,
    in_repository,
    signed,
    signed_form,
    with_header,
    without_header,
)
from tests.support.http import Delivery
from tests.support.needs import beside_the_checkout
from tests.support.public import PublicPlane
from tests.support.pushes import (
    OFFICIAL,
    ZERO,
    as_form,
    commit,
    deletion_payload,
    encoded,
    object_id,
    ping_payload,
    push_payload,
    tag_payload,
)
from tests.support.signing import new_guid

IGNORED: dict[str, tuple[Build, str]] = {
    "ping": (lambda: delivery_of(ping_payload(), event="ping"), "ping"),
    "ping of an organization": (
        lambda: delivery_of({"zen": "x", "organization": {"login": "example"}}, event="ping"),
        "ping",
    ),
    "ping with a bound secret": (
        lambda: delivery_of(ping_payload("example/other"), secret=OTHER_SECRET, event="ping"),
        "ping",
    ),
    "another event": (lambda: delivery_of({"repository": {"full_name": "bittrance/striv"}}, event="star"), "event"),
    "an event of the future": (lambda: delivery_of({}, event="quantum_push"), "event"),
    "a filtered branch": (lambda: signed(ref="refs/heads/private/x"), "branch-filtered"),
    "a filtered tag": (lambda: delivery_of(tag_payload("nightly")), "tag-filtered"),
    "filtered paths": (
        lambda: signed(repository="example/paths", head_commit=commit(object_id(), modified=["docs/a"])),
        "path-filtered",
    ),
    "a deleted branch": (lambda: delivery_of(deletion_payload()), "deleted"),
    "a deleted tag": (lambda: delivery_of(deletion_payload("refs/tags/v1")), "deleted"),
    "a deletion that only the zeros tell": (lambda: changed(after=ZERO, head_commit=None), "deleted"),
    "a deletion in a SHA-256 repository": (
        lambda: changed(before=object_id(length=64), after="0" * 64, head_commit=None),
        "deleted",
    ),
    "a tag that points at no commit": (lambda: delivery_of({**tag_payload(), "head_commit": None}), "no-commit"),
    "a repository that nobody waits for": (lambda: signed(repository="example/unknown"), "repository"),
    "a push of last year": (lambda: signed(pushed_at=1_700_000_000), "stale"),
    "a push of last year, in ISO 8601": (lambda: in_repository(pushed_at="2023-11-14T22:13:20Z"), "stale"),
    **{
        f"{marker} in the head commit": (lambda marker=marker: signed(message=f"Fix\n\n{marker}"), "skip-ci")  # type: ignore[misc]  # mypy infers no lambda with a default
        for marker in ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]", "skip-checks: true")
    },
}


@pytest.mark.parametrize(("build", "reason"), IGNORED.values(), ids=IGNORED.keys())
def test_what_starts_nothing_is_answered_200_with_the_reason_and_kept_for_the_record(
    plane: PublicPlane, build: Build, reason: str
) -> None:
    delivery = build()
    answer = plane.deliver(delivery)
    detail = answer.json["detail"]
    assert answer.status == 200
    assert answer.json == {"delivery": guid_of(delivery), "result": "ignored", "reason": reason, "detail": detail}
    stored = plane.journal.delivery(guid_of(delivery))
    assert (stored.result, stored.reason, stored.detail, stored.jobs) == ("ignored", reason, detail, ())


def official() -> list[Path]:
    return sorted(OFFICIAL.glob("*.json"))


@beside_the_checkout(OFFICIAL, "GitHub's own examples")
@pytest.mark.parametrize("file", official(), ids=lambda file: file.name)
def test_githubs_own_examples_are_answered_200(plane: PublicPlane, file: Path) -> None:
    event = file.name.split("__")[1]
    payload = json.loads(file.read_text(encoding="utf-8"))
    content = encoded(payload)
    reasons = {"ping": "ping", "push": "repository"}
    for delivery in (
        signed(content, event=event),
        signed_form(as_form(content)).with_headers(("X-GitHub-Event", event)),
    ):
        answer = plane.deliver(delivery)
        assert (answer.status, answer.json["reason"]) == (200, reasons.get(event, "event"))


def chunked() -> Delivery:
    delivery = signed()
    third = len(delivery.body) // 3
    parts = (delivery.body[:third], delivery.body[third:])
    return Delivery(headers=delivery.headers, chunks=parts)


MATCHED: dict[str, Build] = {
    "JSON": signed,
    "JSON with its charset": with_header("Content-Type", "Application/JSON; Charset=UTF-8"),
    "an identity encoding": with_header("Content-Encoding", "identity"),
    "form": signed_form,
    "a form with non-ASCII text": lambda: signed_form(as_form(encoded(push_payload(message="ünï — 🚀")))),
    "non-ASCII text": lambda: signed(message="ünï — 🚀", ref="refs/heads/fün/🚀"),
    "chunked": chunked,
    "a lightweight tag": lambda: signed(ref="refs/tags/v1", before=ZERO, created=True, commits=[]),
    "an annotated tag": lambda: delivery_of(tag_payload()),
    "a new branch without commits": lambda: signed(before=ZERO, created=True, commits=[]),
    "a forced push": lambda: signed(forced=True),
    "SHA-256 ids": lambda: signed(before=object_id(length=64), after=object_id(length=64)),
    "an upper-case GUID": lambda: signed(guid=new_guid().upper()),
    "no hook id": without_header("X-GitHub-Hook-ID"),
    "a garbage hook id": with_header("X-GitHub-Hook-ID", "\xb2"),
    "a non-ASCII header that nobody reads": with_header("X-Real-Name", "J\xf6rg"),
    "no pushed_at": lambda: in_repository(pushed_at=None),
    "pushed_at in the future": lambda: in_repository(pushed_at=2**40),
    "pushed_at in ISO 8601": lambda: in_repository(pushed_at="2099-01-01T00:00:00Z"),
    "a repository in other letters": lambda: signed(repository="Bittrance/Striv"),
    "a skip marker in another commit": lambda: signed(
        commits=[commit(object_id(), "[skip ci]"), commit(object_id(), "Fix")]
    ),
    "$( where no param reads it": lambda: changed(pusher={"name": "$(x)"}),
    "a shell's delight": lambda: signed(ref="refs/heads/;$IFS`id`'\"|&"),
    "no pusher": lambda: changed(pusher=None),
    "fields that nobody knows": lambda: changed(quantum={"state": [None, True]}),
    "a path that lists nothing complete": lambda: signed(
        repository="example/paths", created=True, before=ZERO, head_commit=commit(object_id(), added=["docs/a"])
    ),
    "a payload that is longer than what is kept": lambda: signed(
        commits=[commit(object_id(), "x" * 1_000) for _ in range(300)]
    ),
}


@pytest.mark.parametrize("build", MATCHED.values(), ids=MATCHED.keys())
def test_a_matched_push_is_answered_202_with_the_name_of_its_run_once_it_is_stored(
    plane: PublicPlane, build: Build
) -> None:
    delivery = build()
    answer = plane.deliver(delivery)
    assert answer.status == 202, answer
    record = next(
        record for record in plane.journal.records.recent(limit=5) if record.guid == guid_of(delivery).lower()
    )
    (job,) = record.jobs
    runs = [{"trigger": job.trigger, "run": job.run_name, "state": "waiting"}]
    assert answer.json == {"delivery": record.guid, "result": "accepted", "runs": runs}
    assert re.fullmatch(r"striv-[a-z2-7]{20}", job.run_name)
    assert (record.result, record.reason) == ("accepted", "matched")


def test_one_push_that_matches_two_triggers_is_answered_with_two_runs(plane: PublicPlane) -> None:
    answer = plane.deliver(signed(ref="refs/heads/docs/a"))
    assert answer.status == 202
    assert [run["trigger"] for run in answer.json["runs"]] == ["striv", "docs"]
    assert len({run["run"] for run in answer.json["runs"]}) == 2


def test_an_annotated_tag_runs_the_commit_and_not_the_tag_object(plane: PublicPlane) -> None:
    payload = tag_payload()
    delivery = delivery_of(payload)
    plane.deliver(delivery)
    assert plane.journal.delivery(guid_of(delivery)).head_sha == payload["head_commit"]["id"] != payload["after"]
