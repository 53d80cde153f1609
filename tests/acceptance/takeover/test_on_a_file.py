"""The public plane in an attacker's hands, where the journal is a file: it can write anything into it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from receiver.journal.schema import deliveries, jobs, transitions
from tests.acceptance.takeover.attack import Attack
from tests.controlplane import pods
from tests.support.journals import rows, run_sql
from tests.support.load import new_push, send
from tests.support.pushes import encoded, seeded_push
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]


def finished_run(attack: Attack, *, good: bool) -> tuple[str, str]:
    """A run of a real push that has ended; return its name and uid."""
    pushed = new_push(f"ended {good}")
    assert send(attack.planes, pushed) == 202
    (name,) = pushed.runs
    found = wait_until(
        lambda: next((run for run in attack.runs() if run["metadata"]["name"] == name), None), what="the run"
    )
    pods.finish_run(attack.api, attack.namespace, name, failing_task=None if good else "test-backend")
    wait_until(
        lambda: next(row for row in rows(attack.work, jobs) if row["run_name"] == name)["state"] == "finished",
        what="the outcome",
    )
    return name, found["metadata"]["uid"]


def test_a_forged_job_does_not_get_the_outcome_of_another_run(file_attack: Attack) -> None:
    attack = file_attack
    attack.start_playable()
    name, uid = finished_run(attack, good=True)
    begun: dict[str, Any] = {"state": "started", "started_at": 1.0}
    planted = [
        attack.forge(encoded(seeded_push("p1")), **begun, run_name=name, run_uid=uid),
        attack.forge(encoded(seeded_push("p2")), **begun, run_name="striv-nothing", run_uid="no uid at all"),
        attack.forge(encoded(seeded_push("p3")), **begun, run_name="..", run_uid=""),
        attack.forge(encoded(seeded_push("p4")), **begun, run_name="../../../../api/v1/secrets", run_uid=uid),
        attack.forge(encoded(seeded_push("p5")), **begun, run_name=name, run_uid=uid, trigger="miner"),
    ]
    wait_until(lambda: {attack.job(key)["state"] for key in planted} == {"finished"}, what="the follower", seconds=20)
    assert {attack.job(key)["result"] for key in planted} == {"deleted"}
    attack.expect_alive()


def test_an_outcome_that_was_rewritten_is_set_right_from_the_live_run(file_attack: Attack) -> None:
    attack = file_attack
    attack.start_playable()
    name, _ = finished_run(attack, good=False)
    run_sql(attack.serve, "UPDATE jobs SET result = 'succeeded', failed_task = NULL")
    # The list is asked for while a run is under way.
    attack.expect_alive()
    row = wait_until(
        lambda: next((row for row in rows(attack.work, jobs) if row["run_name"] == name and row["failed_task"]), None),
        what="the truth",
        seconds=20,
    )
    assert row["result"] == "failed"
    assert "contradicts the cluster" in attack.planes.log("work")


PLANTED = {
    "a trigger": ("CREATE TRIGGER planted AFTER UPDATE ON jobs BEGIN UPDATE jobs SET result = 'succeeded'; END",),
    "a trigger on the log": ("CREATE TRIGGER planted BEFORE INSERT ON transitions BEGIN DELETE FROM keys; END",),
    "a view in a table's place": (
        "ALTER TABLE revivals RENAME TO old",
        "CREATE VIEW revivals AS SELECT * FROM old",
    ),
    "a table": ("CREATE TABLE planted (a)",),
    "a computed column": ("ALTER TABLE jobs ADD COLUMN planted AS (id * 2)",),
    "a default of its own": ("ALTER TABLE revivals ADD COLUMN planted TEXT DEFAULT 'x'",),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_object_ends_the_worker_before_it_writes_another_row(
    file_attack: Attack, planted: tuple[str, ...]
) -> None:
    attack = file_attack
    attack.start_playable()
    attack.expect_alive()
    attack.wait_settled()  # and nothing moves on: nobody plays the run's pods
    before = rows(attack.work, transitions)
    run_sql(attack.serve, *planted)
    assert attack.planes.processes.pop("work").wait(10) == 1
    log = attack.planes.log("work")
    assert "the journal holds what the receiver did not create" in log
    assert "Traceback" not in log
    assert rows(attack.work, transitions) == before
    # And it does not start again.
    attack.planes.launch("work")
    assert attack.planes.processes.pop("work").wait(20) == 1


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        ({"lease": 2**62 + 1}, "lease is too large"),
        # Nobody claims it any more: it is the list of started jobs that shows it.
        ({"state": "started", "started_at": 1.0, "guid": b"\0"}, "guid is bytes"),
    ],
    ids=["waiting", "started"],
)
def test_a_row_that_no_column_allows_ends_the_worker_with_the_reason(
    file_attack: Attack, forged: dict[str, Any], words: str
) -> None:
    attack = file_attack
    attack.forge(encoded(seeded_push("1")), **forged)
    attack.planes.has_journal = True
    attack.planes.launch("work")
    assert attack.planes.processes.pop("work").wait(20) == 1
    assert f"a row that the receiver did not write ({words})" in attack.planes.log("work")


def test_what_a_terminal_would_obey_is_shown_as_text(file_attack: Attack) -> None:
    attack = file_attack
    evil = "\x1b]0;owned\x07\x1b[2J"
    row: dict[str, Any] = dict.fromkeys((column.name for column in deliveries.c), evil)
    row |= {"id": 1, "hook_id": None, "installation_id": None, "received_at": 1.0, "push_key": b"\1" * 32}
    attack.forge(encoded(seeded_push("1")), push_key=b"\1" * 32, trigger=evil, state=evil, run_name=evil, reason=evil)
    with attack.serve.begin() as connection:
        connection.execute(insert(deliveries), [row])
    attack.planes.has_journal = True
    for arguments in (("list",), ("show", "1")):
        shown = attack.planes.command("deliveries", *arguments)
        assert shown.returncode == 0
        assert "\x1b" not in shown.stdout + shown.stderr
        assert "owned" in shown.stdout
