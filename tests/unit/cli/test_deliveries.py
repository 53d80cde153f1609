"""`receiver deliveries` on a real journal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import trigger, write_folder
from tests.support.http import Delivery
from tests.support.public import FlaskPlane
from tests.support.pushes import commit, encoded, object_id, ping_payload, push_payload
from tests.support.signing import delivery_headers, new_guid
from tests.unit.cli.conftest import Done, Run


class Desk:
    """A journal with deliveries, and the command line in front of it."""

    def __init__(self, folder: Path, run: Run) -> None:
        triggers = [trigger(), trigger("paths", repository="example/paths", on={"push": {"paths": ["src/**"]}})]
        self.config = write_folder(folder, triggers=triggers)
        self.plane = FlaskPlane(self.config)
        self._run = run

    def deliver(self, payload: dict[str, Any], *, event: str = "push", guid: str | None = None) -> str:
        body, guid = encoded(payload), guid or new_guid()
        headers = tuple(delivery_headers(body, event=event, guid=guid).items())
        assert self.plane.deliver(Delivery(body, headers)).status in (200, 202)
        self.plane.journal.delivery(guid)
        return guid

    def run(self, *arguments: str) -> Done:
        return self._run("--config", self.config, "deliveries", *arguments)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "-o", "json")
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture
def desk(tmp_path: Path, run: Run) -> Iterator[Desk]:
    """A desk with an empty journal."""
    desk = Desk(tmp_path / "desk", run)
    yield desk
    desk.plane.close()


def test_an_empty_journal_lists_nothing(desk: Desk) -> None:
    assert desk.json("list") == []
    assert re.fullmatch(r"ID +DELIVERY +RECEIVED +REPOSITORY +REF +SHA +RESULT +RUN +OUTCOME\n", desk.run("list").out)


def test_the_list_shows_delivery_run_and_outcome_newest_first(desk: Desk) -> None:
    payload = push_payload(ref="refs/heads/feature/a")
    done, ignored, dead = desk.deliver(payload), desk.deliver(ping_payload(), event="ping"), new_guid()
    desk.plane.journal.finish(done)
    desk.deliver(push_payload(), guid=dead)
    desk.plane.journal.kill(dead)
    _, first, second, third = desk.run("list").out.splitlines()
    assert re.fullmatch(
        rf"3 +{dead[:8]} +\S+Z +bittrance/striv +master +\S{{7}} +accepted +striv-\S{{20}} +dead: refused", first
    )
    assert re.fullmatch(rf"2 +{ignored[:8]} +\S+Z +bittrance/striv +- +- +ignored: ping +- +-", second)
    sha = payload["after"][:7]
    assert re.fullmatch(
        rf"1 +{done[:8]} +\S+Z +bittrance/striv +feature/a +{sha} +accepted +striv-\S{{20}} +succeeded", third
    )


def test_the_list_can_be_cut_and_read_by_programs(desk: Desk) -> None:
    guids = [desk.deliver(push_payload()) for _ in range(3)]
    found = desk.json("list", "--limit", "2")
    assert [record["guid"] for record in found] == guids[:0:-1]
    assert found[0]["jobs"][0]["state"] == "waiting"
    assert re.fullmatch("[0-9a-f]{64}", found[0]["push_key"])


def test_a_delivery_is_shown_by_its_number_its_guid_or_the_begin_of_it(desk: Desk) -> None:
    guid = desk.deliver(push_payload(ref="refs/heads/x"))
    shown = [desk.run("show", wanted).out for wanted in ("1", guid, guid[:4], guid.upper())]
    assert len(set(shown)) == 1
    assert f"delivery    {guid} (number 1, webhook), push, " in shown[0]
    assert "push        bittrance/striv refs/heads/x " in shown[0]
    assert "trigger     striv, generation 1: waiting, run striv-" in shown[0]
    assert "new -> waiting: matched" in shown[0]


def test_the_begin_of_a_guid_may_be_all_digits_and_a_delivery_of_that_number_comes_first(desk: Desk) -> None:
    digits = desk.deliver(push_payload(), guid="00021450-92c6-4377-a251-9c77b5283d91")
    assert desk.json("show", "0002145")["guid"] == digits
    second = desk.deliver(push_payload(ref="refs/heads/x"))
    assert desk.json("show", "0002")["guid"] == second


def test_a_dead_delivery_shows_the_reason_in_full(desk: Desk) -> None:
    guid = desk.deliver(push_payload())
    desk.plane.journal.kill(guid)
    out = desk.run("show", guid).out
    assert "outcome     dead: refused" in out
    assert "message     HTTP 403: no" in out
    log = desk.json("show", guid)["log"]
    assert [(entry["from_state"], entry["to_state"]) for entry in log] == [("", "waiting"), ("waiting", "dead")]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("7", "there is no delivery `7`"),
        ("abcdef0123", "there is no delivery `abcdef0123`"),
        ("abc", "too short for the begin of a GUID"),
        ("%%%%%", "there is no delivery"),
        ("\xb2", "too short"),
    ],
)
@pytest.mark.parametrize("command", ["show", "retry", "dismiss", "replay"])
def test_a_delivery_that_is_not_there_ends_with_1_and_what_to_do(
    desk: Desk, command: str, wanted: str, words: str
) -> None:
    done = desk.run(command, wanted)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("receiver: ")
    assert words in done.err


def test_a_begin_that_fits_several_guids_is_refused(desk: Desk) -> None:
    for tail in "12":
        desk.deliver(push_payload(), guid=f"72d3162e-cc78-11e3-81ab-4c9367dc095{tail}")
    done = desk.run("show", "72d3162e")
    assert (done.code, "begins several GUIDs" in done.err) == (1, True)


def test_a_dead_job_is_retried_under_the_same_name(desk: Desk) -> None:
    guid = desk.deliver(push_payload())
    name = desk.plane.journal.delivery(guid).jobs[0].run_name
    desk.plane.journal.kill(guid)
    done = desk.run("retry", guid)
    assert (done.code, done.out) == (0, "1 dead job waiting again\n")
    (job,) = desk.json("show", guid)["jobs"]
    assert (job["state"], job["run_name"], job["reason"]) == ("waiting", name, None)
    again = desk.run("retry", guid)
    assert (again.code, again.out, "has no dead job" in again.err) == (1, "", True)


def test_all_dead_jobs_are_retried_at_once(desk: Desk) -> None:
    guids = [desk.deliver(push_payload()) for _ in range(3)]
    for guid in guids[:2]:
        desk.plane.journal.kill(guid)
    assert desk.run("retry", "--dead").out == "2 dead jobs waiting again\n"
    done = desk.run("retry", "--dead")
    assert (done.code, done.out) == (0, "0 dead jobs waiting again\n")


def test_programs_can_read_what_was_retried_and_replayed(desk: Desk) -> None:
    guid = desk.deliver(push_payload())
    desk.plane.journal.kill(guid)
    assert desk.json("retry", guid) == {"retried": 1}
    assert desk.json("retry", "--dead") == {"retried": 0}
    (run,) = desk.json("replay", guid)
    job = desk.json("show", guid)["jobs"][1]
    assert run == {"run": job["run_name"], "trigger": "striv", "generation": 2}


def test_a_dead_job_is_dismissed_for_good_and_still_says_why_it_died(desk: Desk) -> None:
    guid = desk.deliver(push_payload())
    desk.plane.journal.kill(guid)
    done = desk.run("dismiss", guid)
    assert (done.code, done.out) == (0, "1 dead job dismissed\n")
    out = desk.run("show", guid).out
    for words in ("outcome     dismissed", "message     HTTP 403: no", "dead -> finished: dismissed by hand"):
        assert words in out
    for command in ("dismiss", "retry"):
        again = desk.run(command, guid)
        assert (again.code, "has no dead job" in again.err) == (1, True)


def test_all_dead_jobs_are_dismissed_at_once_and_programs_can_read_how_many(desk: Desk) -> None:
    guids = [desk.deliver(push_payload()) for _ in range(3)]
    for guid in guids[:2]:
        desk.plane.journal.kill(guid)
    assert desk.json("dismiss", "--dead") == {"dismissed": 2}
    assert [record["jobs"][0]["state"] for record in desk.json("list")] == ["waiting", "finished", "finished"]
    assert desk.run("dismiss", "--dead").out == "0 dead jobs dismissed\n"


@pytest.mark.parametrize("by", ["id", "--tampered"])
def test_what_was_tampered_with_is_not_dismissed_among_others_but_on_purpose(desk: Desk, by: str) -> None:
    refused, tampered = (desk.deliver(push_payload()) for _ in range(2))
    desk.plane.journal.kill(refused)
    desk.plane.journal.kill(tampered, reason="tampered")
    done = desk.run("dismiss", "--dead")
    assert (done.code, done.out) == (0, "1 dead job dismissed\n")
    assert "1 left, dead as `tampered`" in done.err
    assert desk.json("show", tampered)["jobs"][0]["state"] == "dead"
    done = desk.run("dismiss", tampered if by == "id" else by)
    assert (done.code, done.out, done.err) == (0, "1 dead job dismissed\n", "")


def test_dismissing_the_tampered_leaves_all_others(desk: Desk) -> None:
    refused = desk.deliver(push_payload())
    desk.plane.journal.kill(refused)
    assert desk.json("dismiss", "--tampered") == {"dismissed": 0}
    assert desk.run("dismiss", "--dead", "--tampered").code == 2
    assert desk.json("show", refused)["jobs"][0]["state"] == "dead"


@pytest.mark.parametrize("arguments", [(), ("1", "--dead")])
@pytest.mark.parametrize("command", ["retry", "dismiss"])
def test_retry_and_dismiss_want_one_delivery_or_all_dead(desk: Desk, command: str, arguments: tuple[str, ...]) -> None:
    done = desk.run(command, *arguments)
    assert (done.code, "give either a DELIVERY or --dead" in done.err) == (2, True)


def test_a_replay_is_a_new_run_beside_the_old_and_is_recorded(desk: Desk) -> None:
    guid = desk.deliver(push_payload())
    desk.plane.journal.finish(guid)
    done = desk.run("replay", guid)
    assert done.code == 0
    assert re.fullmatch(r"new run striv-\S{20} \(trigger striv, generation 2\)\n", done.out)
    record = desk.json("show", guid)
    assert (record["source"], record["reason"]) == ("replay", "replayed by hand")
    assert [(job["generation"], job["state"]) for job in record["jobs"]] == [(1, "finished"), (2, "waiting")]
    assert len({job["run_name"] for job in record["jobs"]}) == 2
    assert "generation 3" in desk.run("replay", guid).out


def test_an_ignored_delivery_has_nothing_to_replay_or_retry(desk: Desk) -> None:
    guid = desk.deliver(ping_payload(), event="ping")
    done = desk.run("replay", guid)
    assert (done.code, "was ignored (ping): it has no push to replay" in done.err) == (1, True)
    assert desk.run("retry", guid).code == 1


def test_a_push_that_no_trigger_wants_today_is_not_replayed(desk: Desk) -> None:
    guid = desk.deliver(push_payload())
    write_folder(desk.config.parent, triggers=[trigger(on={"push": {"branches": ["main"]}})])
    done = desk.run("replay", guid)
    assert (done.code, "no trigger matches this push today: striv: branch 'master'" in done.err) == (1, True)


def test_a_replay_heeds_path_filters_as_the_worker_will(desk: Desk) -> None:
    head = commit(object_id(), modified=["src/a"])
    guid = desk.deliver(push_payload(repository="example/paths", head_commit=head))
    wanted = trigger("paths", repository="example/paths", on={"push": {"paths": ["docs/**"]}})
    write_folder(desk.config.parent, triggers=[wanted])
    done = desk.run("replay", guid)
    assert (done.code, "paths takes none of the changed files" in done.err) == (1, True)


def test_what_a_terminal_would_obey_is_not_shown(desk: Desk) -> None:
    guid = desk.deliver(push_payload(ref="refs/heads/\x9b31m\u2028x"))
    for arguments in (("list",), ("show", guid)):
        done = desk.run(*arguments)
        assert (done.code, guid[:8] in done.out) == (0, True)
        assert [line for line in done.out.removesuffix("\n").split("\n") if not line.isprintable()] == []
