"""The HTTP contract, 405, 415 and 400: signed or not, what cannot be a push is refused with what is wrong."""

from __future__ import annotations

import json
import threading

import pytest

from tests.support.deliveries import (
    FORM,
    Build,
    changed,
    delivery_of,
    in_repository,
    signed,
    signed_form,
    with_body,
    with_header,
    without_header,
)
from tests.support.http import Answer, Delivery
from tests.support.public import PublicPlane
from tests.support.pushes import as_form, commit, encoded, object_id, ping_payload, push_payload
from tests.support.signing import new_guid


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_any_method_but_post_is_answered_405(plane: PublicPlane, method: str) -> None:
    answer = plane.deliver(Delivery(method=method))
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert method == "HEAD" or answer.json["error"] == "method"


MEDIA: dict[str, Build] = {
    "text": with_header("Content-Type", "text/plain"),
    "no content type": without_header("Content-Type"),
    "an empty content type": with_header("Content-Type", ""),
    "multipart": with_header("Content-Type", "multipart/form-data; boundary=x"),
    "JSON in another charset": with_header("Content-Type", "application/json; charset=utf-16"),
    "a media type that only begins right": with_header("Content-Type", "application/jsonp"),
    "gzip": with_header("Content-Encoding", "gzip"),
    "two encodings": with_header("Content-Encoding", "identity, gzip"),
    "non-ASCII": with_header("Content-Type", "application/\xe9"),
}


@pytest.mark.parametrize("build", MEDIA.values(), ids=MEDIA.keys())
def test_another_media_type_or_a_compressed_body_is_answered_415(plane: PublicPlane, build: Build) -> None:
    answer = plane.deliver(build())
    assert (answer.status, answer.json["error"]) in [(415, "content-type"), (415, "content-encoding")]


def refs(*bad: str) -> dict[str, tuple[Build, str]]:
    return {f"ref {ref!r}": (lambda ref=ref: signed(ref=ref), "ref") for ref in bad}  # type: ignore[misc]  # mypy infers no lambda with a default


UNUSABLE: dict[str, tuple[Build, str]] = {
    "an empty body": (with_body(b""), "json"),
    "text": (with_body(b"Hello, World!"), "json"),
    "cut JSON": (with_body(encoded(push_payload())[:-1]), "json"),
    "JSON with a tail": (with_body(encoded(push_payload()) + b"{}"), "json"),
    "NaN": (with_body(b'{"ref": NaN}'), "json"),
    "a list": (with_body(b"[]"), "payload"),
    "null": (with_body(b"null"), "payload"),
    "an empty object": (with_body(b"{}"), "payload"),
    "deep nesting": (with_body(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "json"),
    "not UTF-8": (with_body(b'{"ref": "\xff"}'), "encoding"),
    "UTF-16": (with_body(json.dumps(push_payload()).encode("utf-16")), "encoding"),
    "a byte order mark": (with_body(b"\xef\xbb\xbf" + encoded(push_payload())), "json"),
    "a lone surrogate": (with_body(encoded(push_payload()).replace(b"Add a task", b"\\ud800")), "json"),
    "a ref of another type": (lambda: changed(ref=7), "payload"),
    "no ref": (
        lambda: delivery_of({name: value for name, value in push_payload().items() if name != "ref"}),
        "payload",
    ),
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
    "no event": (without_header("X-GitHub-Event"), "event-header"),
    "an empty event": (with_header("X-GitHub-Event", ""), "event-header"),
    "a garbage event": (with_header("X-GitHub-Event", "Push; rm"), "event-header"),
    "a non-ASCII event": (with_header("X-GitHub-Event", "p\xfcsh"), "event-header"),
    "no GUID": (without_header("X-GitHub-Delivery"), "delivery-header"),
    "a garbage GUID": (with_header("X-GitHub-Delivery", "1"), "delivery-header"),
    "a non-ASCII GUID": (with_header("X-GitHub-Delivery", "\xb2" * 36), "delivery-header"),
    "a GUID with a tail": (with_header("X-GitHub-Delivery", new_guid() + "0"), "delivery-header"),
    "$( in a title that is a param": (lambda: signed(message="see $(context.taskRun.name)"), "param"),
    "$( in a branch that is a param": (lambda: signed(ref="refs/heads/$(params.x)"), "param"),
    "a param that is nested too deep": (
        lambda: delivery_of(
            push_payload(
                repository="example/paths", created=True, head_commit={**commit(object_id()), "added": [["src/a"]]}
            )
            | {"commits": []}
        ),
        "param",
    ),
    "a param that is not there": (
        lambda: delivery_of(
            push_payload(repository="example/paths", created=True, head_commit={"id": object_id()}, commits=[])
        ),
        "param",
    ),
    "a form without payload": (lambda: signed_form(b"a=b"), "form"),
    "a form with an empty payload": (lambda: signed_form(b"payload="), "form"),
    "a form with two payloads": (lambda: signed_form(as_form(b"{}") + b"&" + as_form(b"{}")), "form"),
    "a form with other fields": (lambda: signed_form(b"a=b&" + as_form(encoded(push_payload()))), "form"),
    "JSON that is called a form and holds one": (
        lambda: signed(message=f"x&{as_form(encoded(push_payload())).decode()}&x").with_headers(("Content-Type", FORM)),
        "form",
    ),
    "a form with very many fields": (lambda: signed_form(b"&".join([b"a=b"] * 100)), "form"),
    "a form with raw bytes": (lambda: signed_form(b"payload=\xff"), "form"),
    "a form that is not UTF-8": (lambda: signed_form(b"payload=%7B%22ref%22%3A%22%FF%22%7D"), "encoding"),
    "JSON that is called a form": (lambda: signed().with_headers(("Content-Type", FORM)), "form"),
    "another event that is not JSON": (lambda: signed(b"x", event="star"), "json"),
    "a ping about a repository without owner": (lambda: delivery_of(ping_payload("striv"), event="ping"), "repository"),
    "an event about a repository with a very long name": (
        lambda: delivery_of(ping_payload("a/" + "b" * 1_000_000), event="star"),
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
