"""Two replicas that share a journal in PostgreSQL: nobody is refused while they are replaced."""

import time

import pytest

from receiver.core.pipelinerun import KEY
from tests.e2e.support.cluster import eventually, kubectl
from tests.e2e_receiver.installation import NAMESPACE, Installation
from tests.e2e_receiver.sender import Sender, new_push

pytestmark = pytest.mark.e2e_full


def test_a_push_to_either_replica_starts_one_run(replicas: Installation) -> None:
    delivery = new_push()

    answers = [replicas.deliver(delivery) for _ in range(6)]

    assert {answer.status for answer in answers} <= {200, 202}
    (name,) = {name for answer in answers for name in answer.runs}
    run = replicas.wait_for_run(name)
    assert replicas.runs_of(run["metadata"]["annotations"][KEY]) == [name]


def test_an_update_refuses_no_delivery_and_loses_none(replicas: Installation) -> None:
    before = replicas.names()
    assert len(before) == 2
    with Sender(replicas) as sender:
        kubectl("rollout", "restart", "deployment/receiver", "-n", NAMESPACE)
        replicas.wait_ready()
        eventually(lambda: before.isdisjoint(replicas.names()), what="other pods", seconds=60)
        sender.wait_accepted(20, since=time.monotonic())

    assert sender.refused() == []
    assert sender.check_promises() >= 25


def test_a_killed_replica_loses_nothing_that_was_acknowledged(replicas: Installation) -> None:
    victim = replicas.pod()["metadata"]["name"]
    with Sender(replicas) as sender:
        kubectl("delete", "pod", victim, "-n", NAMESPACE, "--force", "--grace-period=0", "--wait=false")
        sender.wait_accepted(20, since=time.monotonic())
        replicas.wait_ready()

    assert sender.check_promises() >= 25


def test_the_public_plane_cannot_change_what_is_in_the_journal(replicas: Installation) -> None:
    script = (
        "import os, psycopg, sys;"
        "url = os.environ['RECEIVER__JOURNAL__URL'].replace('+psycopg', '');"
        "psycopg.connect(url).execute(sys.argv[1])"
    )
    for statement in (
        "UPDATE jobs SET state = 'finished'",
        "DELETE FROM keys",
        "DROP TABLE jobs",
        "CREATE TABLE x (y int)",
    ):
        with pytest.raises(AssertionError, match=r"permission denied|must be owner"):
            replicas.execute("serve", "/opt/receiver/bin/python3", "-I", "-c", script, statement)


def test_a_drained_node_takes_one_replica_at_a_time(replicas: Installation) -> None:
    path = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/receiver"

    def allowed() -> bool:
        status = replicas.cluster.call("GET", path)["status"]
        return bool(status.get("disruptionsAllowed") == 1)

    eventually(allowed, what="one disruption is allowed of two replicas", seconds=60)
