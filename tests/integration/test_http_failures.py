"""The HTTP contract, 503 and 500: a journal that takes nothing, and what health and readiness say of it."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from receiver.journal.engine import sqlite_module
from tests.integration.conftest import OTHER_SECRET
from tests.support.deliveries import fence, signed
from tests.support.http import Answer, Delivery
from tests.support.public import FlaskPlane, FrontPlane, PublicPlane
from tests.support.waiting import wait_until

READINESS = Delivery(method="GET", path="/readyz")


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.json["error"] == "journal"
    assert int(answer.headers["retry-after"]) > 0
    assert "sql" not in answer.body.decode().lower()


def test_health_and_readiness_are_answered(plane: PublicPlane) -> None:
    assert plane.deliver(Delivery(method="GET", path="/healthz")).json == {"status": "ok"}
    assert plane.deliver(Delivery(method="GET", path="/readyz")).json == {"status": "ready"}
    assert plane.deliver(Delivery(method="HEAD", path="/readyz")).status == 200
    for path in ("/healthz", "/readyz"):
        refused = plane.deliver(Delivery(method="POST", path=path))
        assert (refused.status, refused.json["error"]) == (405, "method")


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
    wait_until(lambda: plane.deliver(READINESS).status == 200, what="readiness")
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
        wait_until(lambda: front_plane.deliver(READINESS).status == 503, what="unreadiness", seconds=20)
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, was)
    wait_until(lambda: front_plane.deliver(READINESS).status == 200, what="readiness")
    assert front_plane.journal.counts() == before


def test_an_ignored_push_that_cannot_be_kept_is_answered_all_the_same_and_seen_by_readiness(plane: PublicPlane) -> None:
    lock = sqlite_module().connect(plane.journal.file, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        assert plane.deliver(signed(ref="refs/heads/private/x")).status == 200
        wait_until(lambda: plane.deliver(Delivery(method="GET", path="/readyz")).status == 503, what="unreadiness")
    finally:
        lock.close()
    wait_until(lambda: plane.deliver(READINESS).status == 200, what="readiness")


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
        assert front_plane.deliver(signed(secret=OTHER_SECRET)).status == 401
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, was)
    assert front_plane.journal.counts() == before
    assert front_plane.deliver(delivery).status == 202
    assert front_plane.deliver(Delivery(method="GET", path="/readyz")).status == 200


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
    wait_until(lambda: flask_plane.woken == woken + 1, what="the wake-up after the commit")
