"""Many pushes at once while the journal does not answer: each hears so in time, and what was acknowledged is there after."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from receiver.journal import schema
from tests.support.at_once import Timed, send_at_once
from tests.support.http import Delivery
from tests.support.journals import opened, rows
from tests.support.load import Pushed, new_push
from tests.support.planes import Planes, delivery_headers
from tests.support.postgres import SERVE, WORK, PostgreSQL
from tests.support.proxy import Proxy, Toxic
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance
PUSHES = 700
GITHUB_SECONDS = 10.0
"""https://docs.github.com/en/webhooks: a delivery without an answer by then has failed."""


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Planes]:
    """A public plane on SQLite."""
    prepared = Planes.prepare(tmp_path / "receiver", kubeconfig=tmp_path / "none", namespace="none")
    prepared.start("serve")
    yield prepared
    prepared.stop()


@contextmanager
def locked(planes: Planes) -> Iterator[threading.Event]:
    """Somebody else holds the write lock until the event is set, or the block ends."""
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with opened(planes.folder, migrated=False) as engine, engine.begin():
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        yield let_go
    finally:
        let_go.set()
        holder.join()


def deliveries(pushes: Sequence[Pushed]) -> list[Delivery]:
    return [Delivery(push.body, tuple(delivery_headers(push.body, push.guid).items())) for push in pushes]


def check_refusals(answers: Sequence[Timed]) -> None:
    slowest = max(answer.seconds for answer in answers)
    print(f"\n{Counter(answer.status for answer in answers)}, the slowest after {slowest:.1f} s")  # noqa: T201 - figures for a report
    assert slowest < GITHUB_SECONDS
    assert {answer.status for answer in answers} <= {202, 503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status == 503)


def check_taken(answers: Sequence[Timed]) -> None:
    assert Counter((answer.status, answer.problem) for answer in answers) == {(202, ""): len(answers)}


def stored(planes: Planes) -> set[str]:
    with opened(planes.folder, migrated=False) as engine:
        return {row["guid"] for row in rows(engine, schema.jobs)}


def test_seven_hundred_pushes_at_once_on_a_locked_journal_are_refused_in_time_and_taken_as_soon_as_it_is_free(
    planes: Planes,
) -> None:
    first, second = ([new_push(f"{wave} {number}") for number in range(PUSHES)] for wave in ("first", "second"))
    with locked(planes):
        answers = send_at_once(planes.port, deliveries(first))
        check_refusals(answers)
        assert {answer.status for answer in answers} == {503}
    assert stored(planes) == set()
    check_taken(send_at_once(planes.port, deliveries(first)))
    with locked(planes) as let_go:
        answers = send_at_once(planes.port, deliveries(second), on_first=let_go.set)
        check_refusals(answers)
    acknowledged = {push.guid for push, answer in zip(second, answers, strict=True) if answer.status == 202}
    assert acknowledged | {push.guid for push in first} <= stored(planes)
    check_taken(send_at_once(planes.port, deliveries(second)))


def test_sigterm_ends_the_public_plane_in_time_though_the_journal_is_locked(planes: Planes) -> None:
    with locked(planes):
        sent: list[Timed] = []
        sender = threading.Thread(
            target=lambda: sent.extend(send_at_once(planes.port, deliveries([new_push(str(n)) for n in range(50)])))
        )
        sender.start()
        wait_until(lambda: "delivery" in planes.log("serve"), what="the first of them to be refused", seconds=10)
        began = time.monotonic()
        planes.signal("serve", signal.SIGTERM)
        assert planes.processes.pop("serve").wait(20) == 0
        assert time.monotonic() - began < GITHUB_SECONDS
        sender.join()
    assert {answer.status for answer in sent} == {503}


def test_a_postgresql_that_falls_silent_is_noticed_in_time_and_used_again_when_it_answers(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql.database() as database, Proxy(postgresql.port) as proxy:
        url = database.url(SERVE).set(port=proxy.port).render_as_string(hide_password=False)
        planes = Planes.prepare(
            tmp_path / "receiver",
            kubeconfig=tmp_path / "none",
            namespace="none",
            changes={"journal": {"url": url}},
        )
        planes.has_journal = True
        try:
            planes.start("serve")
            before, during = new_push("before"), [new_push(f"during {number}") for number in range(PUSHES)]
            assert [answer.status for answer in send_at_once(planes.port, deliveries([before]))] == [202]
            proxy.poison(Toxic(swallows=True))
            for answers in (send_at_once(planes.port, deliveries(some)) for some in (during[:350], during[350:])):
                check_refusals(answers)
                assert {answer.status for answer in answers} == {503}
            assert ready(planes) == 503
            proxy.heal()
            wait_until(lambda: ready(planes) == 200, what="the public plane to be ready", seconds=20)
            check_taken(send_at_once(planes.port, deliveries(during)))
            with database.engine(WORK) as engine:
                assert {row["guid"] for row in rows(engine, schema.jobs)} == {push.guid for push in [before, *during]}
        finally:
            planes.stop()


def unreachable_cluster(folder: Path) -> Path:
    """Write a kubeconfig of an API server that nobody has started."""
    named = {"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    user = {"name": "none", "user": {"token": "none"}}
    content = {"clusters": [named], "contexts": [context], "users": [user], "current-context": "none"}
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))
    return file


@pytest.mark.parametrize(("plane", "role"), [("serve", SERVE), ("work", WORK)])
def test_sigterm_ends_a_plane_in_time_though_postgresql_is_silent(
    plane: str, role: str, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql.database() as database, Proxy(postgresql.port) as proxy:
        # Two hosts that are silent both: the time-outs for connecting apply to each.
        url = database.url(role).set(host=None, port=None, query={"host": (f"127.0.0.1:{proxy.port}",) * 2})
        planes = Planes.prepare(
            tmp_path / plane,
            kubeconfig=unreachable_cluster(tmp_path),
            namespace="none",
            changes={"journal": {"url": url.render_as_string(hide_password=False)}},
        )
        planes.has_journal = True
        planes.start(plane)
        held = proxy.held
        proxy.poison(Toxic(holds=True))
        sender = threading.Thread(target=lambda: send_at_once(planes.port, deliveries([new_push("held")])))
        if plane == "serve":
            sender.start()
        wait_until(lambda: proxy.held > held, what=f"{plane} to wait for the journal", seconds=20)
        began = time.monotonic()
        planes.signal(plane, signal.SIGTERM)
        assert planes.processes.pop(plane).wait(20) == 0, planes.log(plane)[-3000:]
        took = time.monotonic() - began
        print(f"\n{plane}: {took:.1f} s")  # noqa: T201 - for whoever reads the run
        assert took < GITHUB_SECONDS
        if plane == "serve":
            sender.join()


def ready(planes: Planes) -> int:
    return requests.get(f"http://127.0.0.1:{planes.port}/readyz", timeout=20).status_code
