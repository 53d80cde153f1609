"""The HTTP contract, duplicates and replays: what was pushed once runs once."""

from __future__ import annotations

import pytest

from tests.support.deliveries import delivery_of, guid_of, signed, signed_form
from tests.support.public import FlaskPlane, PublicPlane
from tests.support.pushes import as_form, encoded, object_id, push_payload
from tests.support.signing import new_guid


@pytest.mark.parametrize("same", ["GUID", "body"])
def test_a_duplicate_of_something_in_flight_is_answered_202_with_the_same_run(plane: PublicPlane, same: str) -> None:
    payload = push_payload()
    first = delivery_of(payload)
    again = first if same == "GUID" else delivery_of(payload).with_headers(("X-GitHub-Hook-ID", "31"))
    one, two = plane.deliver(first), plane.deliver(again)
    assert (one.status, one.json["result"]) == (202, "accepted")
    assert (two.status, two.json["result"], two.json["runs"]) == (202, "duplicate", one.json["runs"])
    plane.journal.start(guid_of(first))
    three = plane.deliver(again)
    assert (three.status, three.json["result"], three.json["runs"][0]["state"]) == (202, "duplicate", "started")
    assert three.json["runs"][0]["run"] == one.json["runs"][0]["run"]


def test_the_same_push_as_json_and_as_form_is_one_push(plane: PublicPlane) -> None:
    payload = push_payload()
    one, two = plane.deliver(delivery_of(payload)), plane.deliver(signed_form(as_form(encoded(payload))))
    assert (two.status, two.json["runs"]) == (202, one.json["runs"])


def test_equal_content_under_the_same_guid_is_one_push_though_pushed_at_differs(plane: PublicPlane) -> None:
    payload, guid = push_payload(), new_guid()
    later = {**payload, "repository": {**payload["repository"], "pushed_at": payload["repository"]["pushed_at"] + 9}}
    one, two = plane.deliver(delivery_of(payload, guid=guid)), plane.deliver(delivery_of(later, guid=guid))
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
    first = delivery_of(payload)
    plane.deliver(first)
    plane.journal.finish(guid_of(first))
    for replayed in (
        delivery_of(payload).with_headers(("X-GitHub-Hook-ID", "99")),
        delivery_of(payload, event="star"),
        delivery_of(payload, event="ping"),
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
