"""The public plane in an attacker's hands: its files and its database role, used as it never would.

It can bring false pushes of configured repositories. Everything else that it tries ends here.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from sqlalchemy import Engine, insert

from receiver.core.events import decode_push
from receiver.core.identity import job_key, push_keys, run_name
from receiver.journal.intake import Wanted, new_job_row
from receiver.journal.schema import deliveries, jobs, pushes, transitions
from tests.controlplane import pods
from tests.controlplane.api import Api
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until
from tests.support.journals import opened, rows, run_sql
from tests.support.load import new_push, send
from tests.support.pipelines import make_pipeline, simplify
from tests.support.planes import Planes
from tests.support.postgres import OWNER, SERVE, WORK, PostgreSQL
from tests.support.pushes import REPOSITORY, encoded, seeded_push
from tests.support.signing import new_guid

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
V1 = "tekton.dev/v1"
KEY = "striv-receiver.dev/key"
MEMORY_KIB = 400 * 1024
"""More than a worker needs with all bodies of one claim in hand, and less than one of the bombs unpacks to."""


@dataclass
class Attack:
    """A running worker, and the journal as the public plane's identity has it."""

    planes: Planes
    api: Api
    namespace: str
    serve: Engine
    work: Engine
    environment: dict[str, str]
    older: frozenset[str]

    def start(self, *planes: str) -> None:
        for plane in planes:
            role = self.environment.get(plane)
            self.planes.start(plane, environment={"RECEIVER__JOURNAL__URL": role} if role else None)

    def forge(self, content: bytes, *, stored: bytes | None = None, **changes: Any) -> bytes:
        """Plant a job for a payload, as the receiver would write it but for `changes`; return its key."""
        try:
            decoded = decode_push(content, with_files=False)
        except Exception:  # noqa: BLE001 - also for what is no push at all
            decoded = decode_push(encoded(seeded_push(content.hex()[:64])), with_files=False)
        push_key = changes.pop("push_key", push_keys(decoded, "").by_time)
        trigger = changes.get("trigger", "striv")
        key: bytes = changes.pop("job_key", job_key(push_key, trigger, changes.get("generation", 1)))
        row = new_job_row(
            key=key,
            push_key=push_key,
            wanted=Wanted(trigger, "striv-"),
            generation=1,
            push=decoded,
            guid=new_guid(),
            now=1.0,
        )
        packed = zlib.compress(content) if stored is None else stored
        planted = {"push_key": push_key, "guid": "", "received_at": 1.0, "body_bytes": 1, "body": packed}
        with self.serve.begin() as connection:
            connection.execute(insert(pushes).inline(), [planted])
            connection.execute(insert(jobs).inline(), [row | changes])
        return key

    def job(self, key: bytes) -> dict[str, Any]:
        (row,) = [row for row in rows(self.work, jobs) if row["job_key"] == key]
        return row

    def wait_settled(self) -> None:
        """Wait until the worker has looked at everything that was planted."""
        wait_until(lambda: all(row["state"] != "waiting" for row in rows(self.work, jobs)), what="all jobs", seconds=30)

    def runs(self) -> list[dict[str, Any]]:
        """All PipelineRuns of the whole cluster that carry a receiver's key and were not there before."""
        return [run for run in runs_with_key(self.api) if run["metadata"]["uid"] not in self.older]

    def expect_alive(self) -> None:
        """A push after all this still becomes a run."""
        pushed = new_push("after the attack")
        assert send(self.planes, pushed) == 202
        (name,) = pushed.runs
        wait_until(lambda: self.api.exists(V1, "PipelineRun", name, namespace=self.namespace), what="the next run")


def runs_with_key(api: Api) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = api.list(V1, "PipelineRun")
    return [run for run in runs if KEY in (run["metadata"].get("annotations") or {})]


@contextmanager
def on_sqlite(planes: Planes) -> Iterator[tuple[Engine, Engine, dict[str, str]]]:
    with opened(planes.folder) as engine:
        yield engine, engine, {}


@contextmanager
def on_postgresql(server: PostgreSQL) -> Iterator[tuple[Engine, Engine, dict[str, str]]]:
    with server.database() as database, database.engine(SERVE) as serve, database.engine(WORK) as work:
        roles = {"serve": SERVE, "work": WORK}
        urls = {plane: database.url_text(role) for plane, role in roles.items()}
        yield serve, work, urls | {"owner": database.url_text(OWNER)}


@contextmanager
def attacking(
    journal: AbstractContextManager[tuple[Engine, Engine, dict[str, str]]],
    planes: Planes,
    control_plane: ControlPlane,
    namespace: str,
) -> Iterator[Attack]:
    with journal as (serve, work, urls):
        if owner := urls.pop("owner", None):
            planes.environment["RECEIVER__JOURNAL__URL"] = owner
        try:
            older = frozenset(run["metadata"]["uid"] for run in runs_with_key(control_plane.api))
            yield Attack(planes, control_plane.api, namespace, serve, work, urls, older)
        finally:
            planes.stop()


@pytest.fixture
def planes(control_plane: ControlPlane, run_namespace: str, tmp_path: Path) -> Planes:
    """Without the fixture's own end: the worker may have stopped by itself."""
    return Planes.prepare(
        tmp_path / "receiver",
        kubeconfig=control_plane.kubeconfig,
        namespace=run_namespace,
        changes={"work": {"relist_seconds": 2, "lease_seconds": 3}},
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def attack(
    request: pytest.FixtureRequest, planes: Planes, control_plane: ControlPlane, run_namespace: str
) -> Iterator[Attack]:
    """On each database in turn."""
    server = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    journal = on_postgresql(server) if server else on_sqlite(planes)
    with attacking(journal, planes, control_plane, run_namespace) as attack:
        yield attack


@pytest.fixture
def file_attack(planes: Planes, control_plane: ControlPlane, run_namespace: str) -> Iterator[Attack]:
    """On SQLite alone, where the public plane can write anything into the file."""
    with attacking(on_sqlite(planes), planes, control_plane, run_namespace) as attack:
        yield attack


def foreign(**changes: Any) -> bytes:
    """A push to a repository that nobody configured."""
    payload = seeded_push("foreign")
    repository = {**payload["repository"], "full_name": "mallory/miner", "clone_url": "https://evil.example/miner"}
    return encoded({**payload, "repository": repository, **changes})


def test_no_forged_job_runs_another_repository_template_namespace_or_url(attack: Attack) -> None:
    attack.start("serve", "work")
    own = encoded(seeded_push("own"))
    bomb = zlib.compress(own[:-1] + b" " * 512 * 1024 * 1024 + b"}", 9)
    refused = {
        "another repository": attack.forge(foreign()),
        "another repository under our name": attack.forge(foreign(after="a" * 40), repository=REPOSITORY),
        "another trigger": attack.forge(encoded(seeded_push("1")), trigger="miner"),
        "a branch that is filtered": attack.forge(encoded(seeded_push("2", branch="gh-readonly-queue/main/x"))),
        "a deleted branch": attack.forge(encoded(seeded_push("3", after="0" * 40, deleted=True))),
        "a ref that Tekton would expand": attack.forge(encoded(seeded_push("4", branch="$(context.taskRun.name)"))),
        "a head that is no commit id": attack.forge(
            encoded(seeded_push("5")).replace(b'"after":"', b'"after":"--upload-pack=')
        ),
        "a key of its own": attack.forge(encoded(seeded_push("6")), job_key=b"\7" * 32),
        "a payload of another push": attack.forge(encoded(seeded_push("7")), push_key=b"\7" * 32),
        "another generation's key": attack.forge(encoded(seeded_push("8")), job_key=job_key(b"\1" * 32, "striv", 2)),
        "garbage": attack.forge(encoded(seeded_push("9")), stored=b"\x00\xff garbage"),
        "half a payload": attack.forge(encoded(seeded_push("10")), stored=zlib.compress(own)[:-9]),
        "nothing": attack.forge(encoded(seeded_push("11")), stored=b""),
        "no JSON": attack.forge(b"\xff\xfe"),
        "a bomb": attack.forge(encoded(seeded_push("12")), stored=bomb),
        "a huge body": attack.forge(encoded(seeded_push("13")), stored=bytes(32 * 1024 * 1024)),
    }
    pushed = encoded(seeded_push("false push", pusher={"name": "mallory"}))
    lies: dict[str, Any] = {
        "repository": "mallory/miner",
        "ref": "refs/heads/lies",
        "head_sha": "f" * 40,
        "run_name": "kube-proxy",
    }
    allowed = attack.forge(pushed, **lies)
    attack.wait_settled()
    states = {what: attack.job(key)["state"] for what, key in refused.items()}
    assert states == dict.fromkeys(refused, "dead")
    reasons = Counter(attack.job(key)["reason"] for key in refused.values())
    assert reasons["tampered"] == 3
    # What remains is a false push of the configured repository: with the configured template, and truly labelled.
    (run,) = attack.runs()
    template = yaml.safe_load((attack.planes.folder / "pipelineruns/striv.yaml").read_text())
    params = {param["name"]: param["value"] for param in run["spec"]["params"]}
    configured = {param["name"]: param["value"] for param in template["spec"]["params"]}
    metadata = run["metadata"]
    assert (metadata["namespace"], metadata["name"]) == (attack.namespace, run_name("striv-", allowed))
    assert params["repo-url"] == configured["repo-url"]
    assert params["revision"] == json.loads(pushed)["after"]
    assert run["spec"]["pipelineRef"]["name"] == template["spec"]["pipelineRef"]["name"]
    assert metadata["annotations"]["striv-receiver.dev/repository"] == REPOSITORY
    assert metadata["annotations"]["striv-receiver.dev/ref"] == "refs/heads/main"
    attack.expect_alive()
    status = Path(f"/proc/{attack.planes.processes['work'].pid}/status").read_text()
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < MEMORY_KIB


def test_a_payload_that_was_put_in_place_before_the_push_came_does_not_run_in_its_name(attack: Attack) -> None:
    """It knows a push before it stores it, so it can store a body that says something else under the push's key."""
    attack.start("work")
    true, false = seeded_push("1"), seeded_push("1", branch="another")
    key = push_keys(decode_push(encoded(true), with_files=False), "").by_time
    planted = attack.forge(encoded(true), stored=zlib.compress(encoded(false)), push_key=key)
    attack.wait_settled()
    assert (attack.job(planted)["state"], attack.job(planted)["reason"]) == ("dead", "tampered")
    assert attack.runs() == []


def test_the_private_port_changes_nothing_for_anybody(attack: Attack) -> None:
    attack.start("work")
    address = f"http://127.0.0.1:{attack.planes.private_port}"
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in ("/", "/metrics", "/healthz", "/jobs", "/retry"):
            assert requests.request(method, address + path, timeout=5).status_code in (404, 405, 501)
    assert requests.get(address + "/../receiver.yaml", timeout=5).status_code == 404


# ---------------------------------------------------------------- what only a file allows


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
    make_pipeline(attack.api, attack.namespace)
    simplify(attack.planes)
    attack.start("serve", "work")
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
    make_pipeline(attack.api, attack.namespace)
    simplify(attack.planes)
    attack.start("serve", "work")
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
    make_pipeline(attack.api, attack.namespace)
    simplify(attack.planes)
    attack.start("serve", "work")
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
