"""The HTTP contract, 401: who may push."""

from __future__ import annotations

import pytest

from receiver.core.signature import unsigned
from tests.integration.conftest import OLD_SECRET, OTHER_SECRET
from tests.support.deliveries import (
    SIGNATURE,
    Build,
    delivery_of,
    fence,
    signed,
    signed_form,
    with_body,
    with_header,
    without_header,
)
from tests.support.http import Delivery
from tests.support.public import PublicPlane
from tests.support.pushes import as_form, deletion_payload, encoded, ping_payload, push_payload
from tests.support.signing import SECRET, sha1_signature, signature


def by_another_repository() -> Delivery:
    return signed(secret=OTHER_SECRET)


def form_with_its_payload_signed() -> Delivery:
    payload = encoded(push_payload())
    return signed_form(as_form(payload)).with_headers((SIGNATURE, signature(payload)))


UNPROVEN: dict[str, Build] = {
    "no signature header": without_header(SIGNATURE),
    "SHA-1 only": lambda: signed().without(SIGNATURE),
    "SHA-1 in the place of SHA-256": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, sha1_signature(delivery.body))
    ),
    "empty": with_header(SIGNATURE, ""),
    "prefix alone, as Gitea sends it without a secret": with_header(SIGNATURE, "sha256="),
    "digest without prefix": lambda: (delivery := signed()).with_headers((SIGNATURE, signature(delivery.body)[7:])),
    "upper-case digest": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, "sha256=" + signature(delivery.body)[7:].upper())
    ),
    "upper-case prefix": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, "SHA256=" + signature(delivery.body)[7:])
    ),
    "one digit less": lambda: (delivery := signed()).with_headers((SIGNATURE, signature(delivery.body)[:-1])),
    "one digit more": lambda: (delivery := signed()).with_headers((SIGNATURE, signature(delivery.body) + "0")),
    "no hex digits": with_header(SIGNATURE, "sha256=" + "g" * 64),
    "non-ASCII": with_header(SIGNATURE, "sha256=" + "\xe9" * 64),
    "non-ASCII digits": with_header(SIGNATURE, "sha256=" + "\xb2" * 64),
    "a control character": with_header(SIGNATURE, "sha256=" + "\t" + "a" * 63),
    "very long": with_header(SIGNATURE, "sha256=" + "a" * 4_000),
    "twice, both right": lambda: (delivery := signed()).with_headers(
        *[(SIGNATURE, signature(delivery.body)) for _ in "ab"]
    ),
    "twice, one right": lambda: (delivery := signed()).with_headers(
        (SIGNATURE, signature(delivery.body)), (SIGNATURE, "sha256=" + "0" * 64)
    ),
    "all zeros": with_header(SIGNATURE, "sha256=" + "0" * 64),
    "a secret that nobody knows": lambda: signed(secret="guessed"),
    "the secret with the newline of its file": lambda: signed(secret=SECRET + "\n"),
    "a signature of another body": lambda: signed().with_headers((SIGNATURE, signature(b"another"))),
    "a signature of the payload of a form": form_with_its_payload_signed,
    "the bound secret of another repository": by_another_repository,
    "the bound secret of another repository, for a ping": lambda: delivery_of(
        ping_payload(), secret=OTHER_SECRET, event="ping"
    ),
    "the bound secret of another repository, for a deletion": lambda: delivery_of(
        deletion_payload(), secret=OTHER_SECRET
    ),
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
    wrong = plane.deliver(with_body(b"[]")())
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


def test_a_bound_secret_cannot_take_the_place_of_another_repositorys_push_by_naming_its_id(plane: PublicPlane) -> None:
    payload = push_payload()
    stolen = {**payload, "repository": {**payload["repository"], "full_name": "example/other"}}
    thief = plane.deliver(delivery_of(stolen, secret=OTHER_SECRET))
    answer = plane.deliver(delivery_of(payload))
    assert (thief.status, answer.status, answer.json["result"]) == (202, 202, "accepted")
    assert answer.json["runs"][0]["run"] != thief.json["runs"][0]["run"]


def test_an_unbound_secret_signs_for_a_repository_that_has_one_of_its_own(plane: PublicPlane) -> None:
    assert plane.deliver(signed(repository="example/other")).status == 202
