"""The database's host dies for good, and its standby takes over: nothing acknowledged is lost, nothing runs twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.controlplane.cluster import ControlPlane
from tests.support.load import new_push
from tests.support.postgres import Database, PostgreSQL
from tests.support.replicas import Persistent, Replicas, assert_one_run_each
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
PUSHES = 300 if os.environ.get("STRIV_FULL") == "1" else 80


@pytest.fixture
def primary(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:  # noqa: ARG001 - fails or skips where there is none
    """A server that the test may destroy."""
    with PostgreSQL.started() as started:
        yield started


@pytest.fixture
def standby(primary: PostgreSQL) -> Iterator[PostgreSQL]:
    """Its synchronous standby: what is committed there is on this one's disk too."""
    with primary.standby() as started:
        yield started


@pytest.fixture
def replicas(
    primary: PostgreSQL, standby: PostgreSQL, control_plane: ControlPlane, run_namespace: str, tmp_path: Path
) -> Iterator[Replicas]:
    """Two pods whose URLs name both hosts, as docs/operations.md says."""
    database = Database(primary, "receiver", standby=standby)
    replicas = Replicas(tmp_path, database, kubeconfig=control_plane.kubeconfig, namespace=run_namespace)
    try:
        replicas.start()
        yield replicas
    finally:
        replicas.stop()


def test_a_failover_under_load_loses_no_acknowledged_push_and_doubles_none(
    control_plane: ControlPlane, primary: PostgreSQL, standby: PostgreSQL, replicas: Replicas
) -> None:
    sent = [new_push(str(number)) for number in range(PUSHES)]
    with Persistent(replicas.pods, sent) as senders:
        wait_until(lambda: sum(each.acknowledged for each in sent) > PUSHES // 8, what="some acknowledgements")
        primary.stop(how=signal.SIGQUIT)
        # The standby answers already, but takes no writes yet.
        wait_until(lambda: any(503 in each.statuses for each in sent), what="a refusal")
        standby.promote()
        began = time.monotonic()
        senders.finish(seconds=30)
    acknowledged = time.monotonic() - began
    assert_one_run_each(replicas, control_plane.api, sent, seconds=15)
    everything = time.monotonic() - began
    statuses = Counter(status for each in sent for status in each.statuses)
    click.echo(
        f"answers {dict(statuses)}; after the promotion: all acknowledged in {acknowledged:.1f} s, "
        f"all runs in {everything:.1f} s"
    )
    assert set(statuses) <= {200, 202, 503}
    replicas.expect_well()
