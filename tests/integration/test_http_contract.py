"""The HTTP contract of the webhook, row by row, of the Flask application and of the real front alike."""

from __future__ import annotations

import json
import re
import resource
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receiver.core.signature import unsigned
from receiver.journal.engine import sqlite_module
from tests.integration.conftest import OLD_SECRET, OTHER_SECRET
from tests.support.http import Answer, Delivery, connect, exchange, read_answer
from tests.support.public import FlaskPlane, FrontPlane, PublicPlane
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
from tests.support.signing import SECRET, delivery_headers, new_guid, sha1_signature, signature
from tests.support.waiting import eventually

LIMIT = 25 * 1024 * 1024
FORM = "application/x-www-form-urlencoded"
SIGNATURE = "X-Hub-Signature-256"
Build = Callable[[], Delivery]


def signed(
    body: bytes | None = None, *, secret: str = SECRET, event: str = "push", guid: str | None = None, **push: Any
) -> Delivery:
    """Return a delivery as GitHub makes it, of a new push unless a body is given."""
    body = encoded(push_payload(**push)) if body is None else body
    return Delivery(body, tuple(delivery_headers(body, secret=secret, event=event, guid=guid).items()))


def guid_of(delivery: Delivery) -> str:
    return dict(delivery.headers)["X-GitHub-Delivery"]


def of(payload: Any, **how: Any) -> Delivery:
    return signed(encoded(payload), **how)


def changed(**top: Any) -> Delivery:
    """Return a signed push with these fields at the top replaced."""
    return of({**push_payload(), **top})


def in_repository(**fields: Any) -> Delivery:
    payload = push_payload()
    return of({**payload, "repository": {**payload["repository"], **fields}})


def header(name: str, value: str) -> Build:
    return lambda: signed().with_headers((name, value))


def missing(name: str) -> Build:
    return lambda: signed().without(name)


def body(content: bytes) -> Build:
    return lambda: signed(content)


def form(content: bytes | None = None) -> Delivery:
    content = as_form(encoded(push_payload())) if content is None else content
    return signed(content).with_headers(("Content-Type", FORM))


def fence(plane: PublicPlane) -> str:
    """Store one push, so that all that was answered before it is stored too; return its GUID."""
    delivery = signed()
    assert plane.deliver(delivery).status == 202
    return guid_of(delivery)


# -- 401 ---------------------------------------------------------------------------------------------------------------


def by_another_repository() -> Delivery:
    return signed(secret=OTHER_SECRET)


def form_with_its_payload_signed() -> Delivery:
    payload = encoded(push_payload())
    return form(as_form(payload)).with_headers((SIGNATURE, signature(payload)))


UNPROVEN: dict[str, Build] = {
    "no signature header": missing(SIGNATURE),
    "SHA-1 only": lambda: signed().without(SIGNATURE),
    "SHA-1 in the place of SHA-256": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, sha1_signature(delivery.body))
    ),
    "empty": header(SIGNATURE, ""),
    "prefix alone, as Gitea sends it without a secret": header(SIGNATURE, "sha256="),
    "digest without prefix": lambda: (delivery := signed()).with_headers((SIGNATURE, signature(delivery.body)[7:])),
    "upper-case digest": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, "sha256=" + signature(delivery.body)[7:].upper())
    ),
    "upper-case prefix": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, "SHA256=" + signature(delivery.body)[7:])
    ),
    "one digit less": lambda: (delivery := signed()).with_headers((SIGNATURE, signature(delivery.body)[:-1])),
    "one digit more": lambda: (delivery := signed()).with_headers((SIGNATURE, signature(delivery.body) + "0")),
    "no hex digits": header(SIGNATURE, "sha256=" + "g" * 64),
    "non-ASCII": header(SIGNATURE, "sha256=" + "\xe9" * 64),
    "non-ASCII digits": header(SIGNATURE, "sha256=" + "\xb2" * 64),
    "a control character": header(SIGNATURE, "sha256=" + "\t" + "a" * 63),
    "very long": header(SIGNATURE, "sha256=" + "a" * 4_000),
    "twice, both right": lambda: (delivery := signed()).with_headers(
        *[(SIGNATURE, signature(delivery.body)) for _ in "ab"]
    ),
    "twice, one right": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, signature(delivery.body)), (SIGNATURE, "sha256=" + "0" * 64)
    ),
    "all zeros": header(SIGNATURE, "sha256=" + "0" * 64),
    "a secret that nobody knows": lambda: signed(secret="guessed"),
    "the secret with the newline of its file": lambda: signed(secret=SECRET + "\n"),
    "a signature of another body": lambda: signed().with_headers((SIGNATURE, signature(b"another"))),
    "a signature of the payload of a form": form_with_its_payload_signed,
    "the bound secret of another repository": by_another_repository,
    "the bound secret of another repository, for a ping": lambda: of(ping_payload(), secret=OTHER_SECRET, event="ping"),
    "the bound secret of another repository, for a deletion": lambda: of(deletion_payload(), secret=OTHER_SECRET),
}


@pytest.mark.parametrize("build", UNPROVEN.values(), ids=UNPROVEN.keys())
def test_what_proves_nothing_is_answered_401_with_one_text_and_leaves_no_trace(
    plane: PublicPlane, build: Build
) -> None:
    fence(plane)
    before = plane.journal.counts()
    answer = plane.deliver(build())
    assert (answer.status, answer.json) == (401, {"error": "signature", "detail": unsigned().detail})
    fence(plane)
    new = {table: count - before[table] for table, count in plane.journal.counts().items()}
    fence_alone = {"deliveries": 1, "pushes": 1, "keys": 3, "jobs": 1, "transitions": 1, "revivals": 0, "journal": 0}
    assert new == fence_alone


def test_no_answer_holds_the_expected_digest_or_a_secret(plane: PublicPlane) -> None:
    delivery = signed()
    forged = plane.deliver(delivery.with_headers((SIGNATURE, "sha256=" + "0" * 64)))
    wrong = plane.deliver(body(b"[]")())
    for answer in (forged, wrong):
        text = (str(answer.headers) + answer.body.decode()).lower()
        assert signature(delivery.body)[7:] not in text
        assert SECRET.lower() not in text
        assert "traceback" not in text
        assert ".py" not in text


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_any_of_several_secrets_may_sign(plane: PublicPlane, secret: str) -> None:
    assert plane.deliver(signed(secret=secret)).status == 202


@pytest.mark.parametrize("repository", ["example/other", "Example/OTHER"])
def test_a_bound_secret_signs_for_its_own_repository_in_any_case(plane: PublicPlane, repository: str) -> None:
    assert plane.deliver(signed(secret=OTHER_SECRET, repository=repository)).status == 202


def test_an_unbound_secret_signs_for_a_repository_that_has_one_of_its_own(plane: PublicPlane) -> None:
    assert plane.deliver(signed(repository="example/other")).status == 202


# -- 405, 413, 415, 400: refused with what is wrong --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_any_method_but_post_is_answered_405(plane: PublicPlane, method: str) -> None:
    answer = plane.deliver(Delivery(method=method))
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert method == "HEAD" or answer.json["error"] == "method"


MEDIA: dict[str, Build] = {
    "text": header("Content-Type", "text/plain"),
    "no content type": missing("Content-Type"),
    "an empty content type": header("Content-Type", ""),
    "multipart": header("Content-Type", "multipart/form-data; boundary=x"),
    "JSON in another charset": header("Content-Type", "application/json; charset=utf-16"),
    "a media type that only begins right": header("Content-Type", "application/jsonp"),
    "gzip": header("Content-Encoding", "gzip"),
    "two encodings": header("Content-Encoding", "identity, gzip"),
    "non-ASCII": header("Content-Type", "application/\xe9"),
}


@pytest.mark.parametrize("build", MEDIA.values(), ids=MEDIA.keys())
def test_another_media_type_or_a_compressed_body_is_answered_415(plane: PublicPlane, build: Build) -> None:
    answer = plane.deliver(build())
    assert (answer.status, answer.json["error"]) in [(415, "content-type"), (415, "content-encoding")]


def refs(*bad: str) -> dict[str, tuple[Build, str]]:
    return {f"ref {ref!r}": (lambda ref=ref: signed(ref=ref), "ref") for ref in bad}  # type: ignore[misc]  # mypy infers no lambda with a default


UNUSABLE: dict[str, tuple[Build, str]] = {
    "an empty body": (body(b""), "json"),
    "text": (body(b"Hello, World!"), "json"),
    "cut JSON": (body(encoded(push_payload())[:-1]), "json"),
    "JSON with a tail": (body(encoded(push_payload()) + b"{}"), "json"),
    "NaN": (body(b'{"ref": NaN}'), "json"),
    "a list": (body(b"[]"), "payload"),
    "null": (body(b"null"), "payload"),
    "an empty object": (body(b"{}"), "payload"),
    "deep nesting": (body(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "json"),
    "not UTF-8": (body(b'{"ref": "\xff"}'), "encoding"),
    "UTF-16": (body(json.dumps(push_payload()).encode("utf-16")), "encoding"),
    "a byte order mark": (body(b"\xef\xbb\xbf" + encoded(push_payload())), "json"),
    "a lone surrogate": (body(encoded(push_payload()).replace(b"Add a task", b"\\ud800")), "json"),
    "a ref of another type": (lambda: changed(ref=7), "payload"),
    "no ref": (lambda: of({name: value for name, value in push_payload().items() if name != "ref"}), "payload"),
    "a short id": (lambda: changed(after=object_id(length=39)), "object-id"),
    "an upper-case id": (lambda: changed(after=object_id().upper()), "object-id"),
    "an id that is no hex": (lambda: changed(before="z" * 40), "object-id"),
    "an id with a newline": (lambda: changed(after=object_id() + "\n"), "object-id"),
    "a bad id in head_commit": (lambda: changed(head_commit=commit("HEAD")), "object-id"),
    "head_commit of another type": (lambda: changed(head_commit="x"), "payload"),
    "no repository": (lambda: changed(repository=None), "payload"),
    "a repository without owner": (lambda: in_repository(full_name="striv"), "repository"),
    "a repository that climbs": (lambda: in_repository(full_name="../../etc"), "repository"),
    "a repository id of another type": (lambda: in_repository(id="7"), "payload"),
    "a repository id that no column can hold": (lambda: in_repository(id=2**63), "payload"),
    "a repository id of a thousand digits": (lambda: in_repository(id=10**999), "payload"),
    "a negative repository id": (lambda: in_repository(id=-1), "payload"),
    "an installation id that no column can hold": (lambda: changed(installation={"id": 2**63}), "payload"),
    "a pushed_at of a thousand digits": (lambda: in_repository(pushed_at=10**999), "payload"),
    "a pushed_at that is no time": (lambda: in_repository(pushed_at="yesterday"), "payload"),
    "an id of more digits than Python reads": (
        lambda: signed(encoded(push_payload()).replace(b"214748365", b"9" * 5_000)),
        "payload",
    ),
    "a ref of another kind": (lambda: signed(ref="refs/pull/1/head"), "ref"),
    "a ref longer than GitHub takes": (lambda: signed(ref="refs/heads/" + "x" * 2_000), "ref"),
    **refs(
        "master",
        "refs/heads/",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/a\nb",
        "refs/heads/a\0b",
        "refs/heads/.a",
        "refs/heads/a.lock",
        "refs/heads/a//b",
        "refs/heads/a/",
        "refs/heads/a.",
        "refs/heads/a@{b",
        "refs/heads/a~1",
        "refs/heads/a*",
        "refs/heads/a\\b",
        "refs/heads/a\x7f",
    ),
    "no event": (missing("X-GitHub-Event"), "event-header"),
    "an empty event": (header("X-GitHub-Event", ""), "event-header"),
    "a garbage event": (header("X-GitHub-Event", "Push; rm"), "event-header"),
    "a non-ASCII event": (header("X-GitHub-Event", "p\xfcsh"), "event-header"),
    "no GUID": (missing("X-GitHub-Delivery"), "delivery-header"),
    "a garbage GUID": (header("X-GitHub-Delivery", "1"), "delivery-header"),
    "a non-ASCII GUID": (header("X-GitHub-Delivery", "\xb2" * 36), "delivery-header"),
    "a GUID with a tail": (header("X-GitHub-Delivery", new_guid() + "0"), "delivery-header"),
    "$( in a title that is a param": (lambda: signed(message="see $(context.taskRun.name)"), "param"),
    "$( in a branch that is a param": (lambda: signed(ref="refs/heads/$(params.x)"), "param"),
    "a param that is nested too deep": (
        lambda: of(
            push_payload(
                repository="example/paths", created=True, head_commit={**commit(object_id()), "added": [["src/a"]]}
            )
            | {"commits": []}
        ),
        "param",
    ),
    "a param that is not there": (
        lambda: of(push_payload(repository="example/paths", created=True, head_commit={"id": object_id()}, commits=[])),
        "param",
    ),
    "a form without payload": (lambda: form(b"a=b"), "form"),
    "a form with an empty payload": (lambda: form(b"payload="), "form"),
    "a form with two payloads": (lambda: form(as_form(b"{}") + b"&" + as_form(b"{}")), "form"),
    "a form with other fields": (lambda: form(b"a=b&" + as_form(encoded(push_payload()))), "form"),
    "JSON that is called a form and holds one": (
        lambda: signed(message=f"x&{as_form(encoded(push_payload())).decode()}&x").with_headers(("Content-Type", FORM)),
        "form",
    ),
    "a form with very many fields": (lambda: form(b"&".join([b"a=b"] * 100)), "form"),
    "a form with raw bytes": (lambda: form(b"payload=\xff"), "form"),
    "a form that is not UTF-8": (lambda: form(b"payload=%7B%22ref%22%3A%22%FF%22%7D"), "encoding"),
    "JSON that is called a form": (lambda: signed().with_headers(("Content-Type", FORM)), "form"),
    "another event that is not JSON": (lambda: signed(b"x", event="star"), "json"),
    "a ping about a repository without owner": (lambda: of(ping_payload("striv"), event="ping"), "repository"),
    "an event about a repository with a very long name": (
        lambda: of(ping_payload("a/" + "b" * 1_000_000), event="star"),
        "repository",
    ),
}


@pytest.mark.parametrize(("build", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_signed_body_that_is_no_usable_push_is_answered_400_with_what_is_wrong(
    plane: PublicPlane, build: Build, reason: str
) -> None:
    answer = plane.deliver(build())
    assert (answer.status, answer.json["error"]) == (400, reason)
    assert answer.json["detail"]
    assert len(answer.body) < 1_000


def test_a_bad_delivery_does_not_spoil_its_neighbours(plane: PublicPlane) -> None:
    answers: list[Answer] = []
    bad = [in_repository(id=10**400), in_repository(pushed_at=10**400), in_repository(pushed_at=-(2**50))]
    every = [*bad, *[signed() for _ in range(5)]]
    threads = [threading.Thread(target=lambda each=each: answers.append(plane.deliver(each))) for each in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, *[202] * 5, 400, 400]


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 30])
def test_a_content_length_over_the_limit_is_answered_413_before_anything_is_read(
    plane: PublicPlane, length: str
) -> None:
    answer = plane.deliver(Delivery(length=length))
    assert answer.status in ((413, 400) if length == "9" * 30 else (413,))
    assert answer.status == 400 or answer.json == {
        "error": "too-large",
        "detail": f"the body is longer than {LIMIT} bytes",
    }


def test_a_body_of_exactly_the_limit_is_read(plane: PublicPlane) -> None:
    content = b" " * (LIMIT - 2) + b"{}"
    assert plane.deliver(signed(content)).json["error"] == "payload"


def test_a_chunked_body_over_the_limit_is_answered_413_though_its_signature_is_right(plane: PublicPlane) -> None:
    content = b" " * (LIMIT - 1) + b"{}"
    chunks = tuple(content[start : start + 2**20] for start in range(0, len(content), 2**20))
    delivery = Delivery(headers=signed(content).headers, chunks=chunks)
    assert plane.deliver(delivery).json["error"] == "too-large"


def test_a_push_whose_bulk_is_not_in_its_lists_is_answered_413(plane: PublicPlane) -> None:
    answer = plane.deliver(changed(pusher={"name": "x" * 300_000}))
    assert (answer.status, answer.json["error"]) == (413, "too-large")


# -- the order of the checks -------------------------------------------------------------------------------------------

HUGE = str(LIMIT + 1)
ORDER: dict[str, tuple[Build, int]] = {
    "method before length": (lambda: Delivery(method="PUT", length=HUGE), 405),
    "length before signature": (lambda: Delivery(length=HUGE), 413),
    "signature before media type": (
        lambda: signed(secret="guessed").with_headers(("Content-Type", "text/plain")),
        401,
    ),
    "signature before headers": (lambda: signed(secret="guessed").without("X-GitHub-Event"), 401),
    "media type before JSON": (lambda: signed(b"x").with_headers(("Content-Type", "text/plain")), 415),
    "decoding before the repository's secret": (lambda: signed(b"x", secret=OTHER_SECRET), 400),
    "a good ref before the repository's secret": (lambda: signed(ref="refs/heads/a..b", secret=OTHER_SECRET), 400),
    "the repository's secret before the filters": (
        lambda: signed(ref="refs/heads/private/x", secret=OTHER_SECRET),
        401,
    ),
    "the repository's secret before the params": (lambda: signed(message="$(x)", secret=OTHER_SECRET), 401),
    "the filters before the params": (lambda: signed(ref="refs/heads/private/$(x)"), 200),
    "the filters before the age": (lambda: signed(ref="refs/heads/private/x", pushed_at=1), 200),
}


@pytest.mark.parametrize(("build", "status"), ORDER.values(), ids=ORDER.keys())
def test_the_checks_have_the_order_of_the_design(plane: PublicPlane, build: Build, status: int) -> None:
    assert plane.deliver(build()).status == status


def test_the_signature_header_is_checked_before_the_body_is_awaited(front_plane: FrontPlane) -> None:
    with connect(front_plane.port) as connection:
        connection.sendall(signed().with_headers((SIGNATURE, "sha256=x")).head())
        assert read_answer(connection).status == 401


def test_the_media_type_of_a_good_signature_is_checked_after_the_body(front_plane: FrontPlane) -> None:
    delivery = signed().with_headers(("Content-Type", "text/plain"))
    with connect(front_plane.port) as connection:
        connection.sendall(delivery.head())
        connection.sendall(delivery.body)
        assert read_answer(connection).status == 415


# -- 200: heard, and nothing to do -------------------------------------------------------------------------------------

IGNORED: dict[str, tuple[Build, str]] = {
    "ping": (lambda: of(ping_payload(), event="ping"), "ping"),
    "ping of an organization": (
        lambda: of({"zen": "x", "organization": {"login": "example"}}, event="ping"),
        "ping",
    ),
    "ping with a bound secret": (lambda: of(ping_payload("example/other"), secret=OTHER_SECRET, event="ping"), "ping"),
    "another event": (lambda: of({"repository": {"full_name": "bittrance/striv"}}, event="star"), "event"),
    "an event of the future": (lambda: of({}, event="quantum_push"), "event"),
    "a filtered branch": (lambda: signed(ref="refs/heads/private/x"), "branch-filtered"),
    "a filtered tag": (lambda: of(tag_payload("nightly")), "tag-filtered"),
    "filtered paths": (
        lambda: signed(repository="example/paths", head_commit=commit(object_id(), modified=["docs/a"])),
        "path-filtered",
    ),
    "a deleted branch": (lambda: of(deletion_payload()), "deleted"),
    "a deleted tag": (lambda: of(deletion_payload("refs/tags/v1")), "deleted"),
    "a deletion that only the zeros tell": (lambda: changed(after=ZERO, head_commit=None), "deleted"),
    "a deletion in a SHA-256 repository": (
        lambda: changed(before=object_id(length=64), after="0" * 64, head_commit=None),
        "deleted",
    ),
    "a tag that points at no commit": (lambda: of({**tag_payload(), "head_commit": None}), "no-commit"),
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


# -- 202: it will run --------------------------------------------------------------------------------------------------


def chunked() -> Delivery:
    delivery = signed()
    third = len(delivery.body) // 3
    parts = (delivery.body[:third], delivery.body[third:])
    return Delivery(headers=delivery.headers, chunks=parts)


MATCHED: dict[str, Build] = {
    "JSON": signed,
    "JSON with its charset": header("Content-Type", "Application/JSON; Charset=UTF-8"),
    "an identity encoding": header("Content-Encoding", "identity"),
    "form": form,
    "a form with non-ASCII text": lambda: form(as_form(encoded(push_payload(message="ünï — 🚀")))),
    "non-ASCII text": lambda: signed(message="ünï — 🚀", ref="refs/heads/fün/🚀"),
    "chunked": chunked,
    "a lightweight tag": lambda: signed(ref="refs/tags/v1", before=ZERO, created=True, commits=[]),
    "an annotated tag": lambda: of(tag_payload()),
    "a new branch without commits": lambda: signed(before=ZERO, created=True, commits=[]),
    "a forced push": lambda: signed(forced=True),
    "SHA-256 ids": lambda: signed(before=object_id(length=64), after=object_id(length=64)),
    "an upper-case GUID": lambda: signed(guid=new_guid().upper()),
    "no hook id": missing("X-GitHub-Hook-ID"),
    "a garbage hook id": header("X-GitHub-Hook-ID", "\xb2"),
    "a non-ASCII header that nobody reads": header("X-Real-Name", "J\xf6rg"),
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
    delivery = of(payload)
    plane.deliver(delivery)
    assert plane.journal.delivery(guid_of(delivery)).head_sha == payload["head_commit"]["id"] != payload["after"]


# -- duplicates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", ["GUID", "body"])
def test_a_duplicate_of_something_in_flight_is_answered_202_with_the_same_run(plane: PublicPlane, same: str) -> None:
    payload = push_payload()
    first = of(payload)
    again = first if same == "GUID" else of(payload).with_headers(("X-GitHub-Hook-ID", "31"))
    one, two = plane.deliver(first), plane.deliver(again)
    assert (one.status, one.json["result"]) == (202, "accepted")
    assert (two.status, two.json["result"], two.json["runs"]) == (202, "duplicate", one.json["runs"])
    plane.journal.start(guid_of(first))
    three = plane.deliver(again)
    assert (three.status, three.json["result"], three.json["runs"][0]["state"]) == (202, "duplicate", "started")
    assert three.json["runs"][0]["run"] == one.json["runs"][0]["run"]


def test_the_same_push_as_json_and_as_form_is_one_push(plane: PublicPlane) -> None:
    payload = push_payload()
    one, two = plane.deliver(of(payload)), plane.deliver(form(as_form(encoded(payload))))
    assert (two.status, two.json["runs"]) == (202, one.json["runs"])


def test_equal_content_under_the_same_guid_is_one_push_though_pushed_at_differs(plane: PublicPlane) -> None:
    payload, guid = push_payload(), new_guid()
    later = {**payload, "repository": {**payload["repository"], "pushed_at": payload["repository"]["pushed_at"] + 9}}
    one, two = plane.deliver(of(payload, guid=guid)), plane.deliver(of(later, guid=guid))
    assert (two.json["result"], two.json["runs"]) == ("duplicate", one.json["runs"])


def test_a_guid_alone_makes_no_duplicate(plane: PublicPlane) -> None:
    guid = new_guid()
    one, two = plane.deliver(signed(guid=guid)), plane.deliver(signed(guid=guid))
    assert (two.status, two.json["result"]) == (202, "accepted")
    assert two.json["runs"] != one.json["runs"]


def test_pushing_back_and_forth_starts_as_many_runs_as_pushes(plane: PublicPlane) -> None:
    here, there = object_id(), object_id()
    moves = [(here, there, 1), (there, here, 2), (here, there, 3)]
    start = push_payload()["repository"]["pushed_at"]
    answers = [plane.deliver(signed(before=before, after=after, pushed_at=start + at)) for before, after, at in moves]
    assert len({answer.json["runs"][0]["run"] for answer in answers}) == 3


def test_a_duplicate_of_something_done_is_answered_200(plane: PublicPlane) -> None:
    delivery = signed()
    run = plane.deliver(delivery).json["runs"][0]["run"]
    plane.journal.finish(guid_of(delivery))
    answer = plane.deliver(delivery)
    assert answer.status == 200
    assert (answer.json["result"], answer.json["reason"]) == ("duplicate", "duplicate")
    assert answer.json["runs"] == [{"trigger": "striv", "run": run, "state": "finished"}]


def test_a_duplicate_of_something_dead_is_answered_202_and_lives_again(plane: PublicPlane) -> None:
    delivery = signed()
    run = plane.deliver(delivery).json["runs"][0]["run"]
    plane.journal.kill(guid_of(delivery))
    answer = plane.deliver(delivery)
    assert answer.status == 202
    assert answer.json["runs"] == [{"trigger": "striv", "run": run, "state": "waiting"}]
    plane.journal.start(guid_of(delivery))


def test_a_captured_body_starts_nothing_whatever_its_headers_say(plane: PublicPlane) -> None:
    payload = push_payload()
    first = of(payload)
    plane.deliver(first)
    plane.journal.finish(guid_of(first))
    for replayed in (
        of(payload).with_headers(("X-GitHub-Hook-ID", "99")),
        of(payload, event="star"),
        of(payload, event="ping"),
    ):
        assert plane.deliver(replayed).status == 200


def test_the_age_of_a_push_is_measured_against_the_replay_window(flask_plane: FlaskPlane) -> None:
    pushed_at = 1_800_000_000
    days = 86_400 * 30
    delivery = signed(pushed_at=pushed_at)
    try:
        flask_plane.now = pushed_at + days + 1.0
        assert flask_plane.deliver(delivery).json["reason"] == "stale"
        flask_plane.now = pushed_at + days - 1.0
        assert flask_plane.deliver(delivery).status == 202
    finally:
        flask_plane.now = None


# -- 503 ---------------------------------------------------------------------------------------------------------------


READINESS = Delivery(method="GET", path="/readyz")


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.json["error"] == "journal"
    assert int(answer.headers["retry-after"]) > 0
    assert "sql" not in answer.body.decode().lower()


def test_a_locked_journal_is_answered_503_until_it_is_free_again(plane: PublicPlane) -> None:
    lock = sqlite_module().connect(plane.journal.file, isolation_level=None)
    delivery = signed()
    try:
        lock.execute("BEGIN IMMEDIATE")
        assert_unavailable(plane.deliver(delivery))
        assert_unavailable(plane.deliver(Delivery(method="GET", path="/readyz")))
        assert plane.deliver(Delivery(method="GET", path="/healthz")).status == 200
    finally:
        lock.close()
    eventually(lambda: plane.deliver(READINESS).status == 200, what="readiness")
    answer = plane.deliver(delivery)
    assert (answer.status, answer.json["result"]) == (202, "accepted")


def test_a_journal_that_takes_no_writes_any_more_is_seen_by_readiness_before_a_push_is_refused(
    front_plane: FrontPlane,
) -> None:
    process = front_plane.process.pid
    was = resource.prlimit(process, resource.RLIMIT_FSIZE)
    fence(front_plane)
    before = front_plane.journal.counts()
    try:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (0, was[1]))
        eventually(lambda: front_plane.deliver(READINESS).status == 503, what="unreadiness", seconds=20)
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, was)
    eventually(lambda: front_plane.deliver(READINESS).status == 200, what="readiness")
    assert front_plane.journal.counts() == before


def test_an_ignored_push_that_cannot_be_kept_is_answered_all_the_same_and_seen_by_readiness(plane: PublicPlane) -> None:
    lock = sqlite_module().connect(plane.journal.file, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        assert plane.deliver(signed(ref="refs/heads/private/x")).status == 200
        eventually(lambda: plane.deliver(Delivery(method="GET", path="/readyz")).status == 503, what="unreadiness")
    finally:
        lock.close()
    eventually(lambda: plane.deliver(READINESS).status == 200, what="readiness")


def test_a_full_disk_is_answered_503_and_nothing_is_half_written(front_plane: FrontPlane) -> None:
    fence(front_plane)
    before = front_plane.journal.counts()
    process = front_plane.process.pid
    was = resource.prlimit(process, resource.RLIMIT_FSIZE)
    delivery = signed()
    try:
        # No file may grow, not even a byte: what write(2) then says is what a full disk says to SQLite.
        resource.prlimit(process, resource.RLIMIT_FSIZE, (0, was[1]))
        assert_unavailable(front_plane.deliver(delivery))
        # Several slashes are one, to Flask and so to all.
        for path in ("/readyz", "//readyz"):
            assert_unavailable(front_plane.deliver(Delivery(method="GET", path=path)))
        assert front_plane.deliver(by_another_repository()).status == 401
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, was)
    assert front_plane.journal.counts() == before
    assert front_plane.deliver(delivery).status == 202
    assert front_plane.deliver(Delivery(method="GET", path="/readyz")).status == 200


# -- the front alone: slow, long and broken clients --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "status"),
    [
        (lambda: Delivery(b"x" * LIMIT, signed(b"").headers), 401),
        (lambda: Delivery(b"x" * LIMIT), 401),
        (lambda: Delivery(b"x" * (LIMIT + 1)), 413),
        (lambda: Delivery(chunks=(b"x" * 2**20,) * 26, headers=signed(b"").headers), 413),
        (lambda: Delivery(b"x" * LIMIT, method="PUT"), 405),
        (lambda: Delivery(b"x" * LIMIT, path="/elsewhere"), 404),
        (lambda: Delivery(b"x" * LIMIT, path="/healthz"), 405),
    ],
    ids=["wrong", "unsigned", "too long", "too long in chunks", "PUT", "elsewhere", "health"],
)
def test_a_refused_client_reads_its_whole_answer_though_its_body_is_long(
    front_plane: FrontPlane, build: Build, status: int
) -> None:
    with connect(front_plane.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        connection.sendall(build().raw())
        answer = read_answer(connection)
        assert answer.status == status
        assert answer.json["error"]
        # The connection ends in order: a reset would be an exception here.
        assert connection.recv(1) == b""


def test_a_body_that_does_not_arrive_in_time_is_answered_408(front_plane: FrontPlane) -> None:
    delivery = signed()
    with connect(front_plane.port) as connection:
        connection.sendall(delivery.head() + delivery.body[:-1])
        answer = read_answer(connection)
    assert (answer.status, answer.json["error"]) == (408, "slow")


def test_a_client_that_hangs_up_in_the_middle_of_its_body_does_no_harm(front_plane: FrontPlane) -> None:
    delivery = signed()
    for content in (delivery.head(), delivery.head() + delivery.body[:-1], delivery.raw()):
        with connect(front_plane.port) as connection:
            connection.sendall(content)
    fence(front_plane)


def test_several_deliveries_share_one_connection(front_plane: FrontPlane) -> None:
    with connect(front_plane.port) as connection:
        for _ in range(3):
            connection.sendall(signed().raw().replace(b"Connection: close\r\n", b""))
            answer = read_answer(connection)
            assert answer.status == 202
            assert answer.headers.get("connection") != "close"


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(front_plane: FrontPlane) -> None:
    delivery = signed().with_headers(("Expect", "100-continue"))
    with connect(front_plane.port) as connection:
        connection.sendall(delivery.head())
        assert connection.recv(2**10).startswith(b"HTTP/1.1 100 ")
        connection.sendall(delivery.body)
        assert read_answer(connection).status == 202


BROKEN = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"POST /webhook\r\n\r\n",
    "two lengths": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a negative length": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a length that is no number": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\nx",
    "a bad chunk": b"POST /webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a folded header": b"POST /webhook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: sha256=\r\n abc\r\n\r\n",
    "a header without end": b"POST /webhook HTTP/1.1\r\nX-A: " + b"a" * 2**20,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_client_that_speaks_no_proper_http_never_makes_a_5xx(front_plane: FrontPlane, content: bytes) -> None:
    with connect(front_plane.port) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            got = connection.recv(2**16)
        except OSError:
            got = b""
    assert not got or re.match(rb"HTTP/1\.1 4\d\d ", got), got
    fence(front_plane)


def test_a_header_name_with_underscores_does_not_pass_for_the_real_one(front_plane: FrontPlane) -> None:
    delivery = signed()
    renamed = delivery.without(SIGNATURE).with_headers(("X_Hub_Signature_256", signature(delivery.body)))
    assert front_plane.deliver(renamed).status == 401
    renamed = delivery.without("X-GitHub-Event").with_headers(("X_GitHub_Event", "push"))
    assert front_plane.deliver(renamed).json["error"] == "event-header"


def test_an_odd_url_is_answered_404_in_json(front_plane: FrontPlane) -> None:
    for path in ("/", "/webhook/", "/webhook%00", "/%ff", "/w\xe9bhook", "/a/../webhook", "/WEBHOOK"):
        answer = exchange(front_plane.port, Delivery(method="GET", path=path))
        assert (path, answer.status) in ((path, 404), (path, 400))
        assert answer.status == 400 or answer.json["error"] == "not-found"


def test_a_query_after_the_path_is_of_no_matter(plane: PublicPlane) -> None:
    delivery = signed()
    queried = Delivery(delivery.body, delivery.headers, path="/webhook?a=%ff&b")
    assert plane.deliver(queried).status == 202


# -- health, and GitHub's own examples ---------------------------------------------------------------------------------


def test_health_and_readiness_are_answered(plane: PublicPlane) -> None:
    assert plane.deliver(Delivery(method="GET", path="/healthz")).json == {"status": "ok"}
    assert plane.deliver(Delivery(method="GET", path="/readyz")).json == {"status": "ready"}
    assert plane.deliver(Delivery(method="HEAD", path="/readyz")).status == 200
    for path in ("/healthz", "/readyz"):
        refused = plane.deliver(Delivery(method="POST", path=path))
        assert (refused.status, refused.json["error"]) == (405, "method")


def official() -> list[Path]:
    return sorted(OFFICIAL.glob("*.json"))


@pytest.mark.skipif(not official(), reason="GitHub's example payloads are not beside the checkout (../shared/payloads)")
@pytest.mark.parametrize("file", official(), ids=lambda file: file.name)
def test_githubs_own_examples_are_answered_200(plane: PublicPlane, file: Path) -> None:
    event = file.name.split("__")[1]
    payload = json.loads(file.read_text(encoding="utf-8"))
    content = encoded(payload)
    reasons = {"ping": "ping", "push": "repository"}
    for delivery in (signed(content, event=event), form(as_form(content)).with_headers(("X-GitHub-Event", event))):
        answer = plane.deliver(delivery)
        assert (answer.status, answer.json["reason"]) == (200, reasons.get(event, "event"))


def test_an_unforeseen_failure_is_answered_500_without_a_trace(
    flask_plane: FlaskPlane, caplog: pytest.LogCaptureFixture
) -> None:
    flask_plane.writer.submit, was = _broken, flask_plane.writer.submit  # type: ignore[method-assign]  # broken for this one test
    try:
        answer = flask_plane.deliver(signed())
    finally:
        flask_plane.writer.submit = was  # type: ignore[method-assign]  # broken for this one test
    assert answer.status == 500
    assert "unforeseen" not in answer.body.decode()
    assert "Traceback" not in answer.body.decode()
    assert answer.json["error"] == "internal"
    assert "unforeseen" in caplog.text


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("unforeseen")


def test_a_commit_that_fails_after_the_wait_wakes_nobody(
    flask_plane: FlaskPlane, caplog: pytest.LogCaptureFixture
) -> None:
    woken = flask_plane.woken
    lock = sqlite_module().connect(flask_plane.journal.file, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        caplog.clear()
        answer = flask_plane.deliver(signed())
        assert answer.status == 503
        # Why is for the operator, not for whoever sent it.
        (record,) = (record for record in caplog.records if record.getMessage() == "delivery")
        assert "locked" in record.__dict__["problem"]
        assert "locked" not in answer.body.decode()
    finally:
        lock.close()
    assert flask_plane.woken == woken
    fence(flask_plane)
    eventually(lambda: flask_plane.woken == woken + 1, what="the wake-up after the commit")
