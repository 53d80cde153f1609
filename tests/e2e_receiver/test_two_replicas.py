"""Two replicas that share a journal in PostgreSQL: nobody is refused while they are replaced."""

from collections.abc import Callable

import pytest

from tests.e2e.support.cluster import ApiError, eventually, kubectl
from tests.e2e_receiver.installation import CORE, NAMESPACE, Answer, Installation
from tests.e2e_receiver.rotation import rotate
from tests.e2e_receiver.sender import SENDERS, Sender, new_push
from tests.support.signing import new_guid

pytestmark = pytest.mark.e2e_full

Measured = Callable[[str], None]
FEWEST = 10 * SENDERS
IN_FLIGHT = SENDERS
"""How many deliveries a replica can have in hand when it is killed without notice."""


@pytest.fixture(autouse=True)
def both(replicas: Installation) -> None:
    """Each test begins with two replicas that are ready."""
    replicas.wait_for_replicas(2)


def test_a_push_to_either_replica_starts_one_run(replicas: Installation) -> None:
    delivery = new_push()
    answers: dict[str, Answer] = {}

    def both_were_asked() -> bool:
        guid = new_guid()
        answers[guid] = replicas.deliver(delivery, guid=guid)
        logs = [kubectl("logs", name, "-c", "serve", "-n", NAMESPACE) for name in replicas.names()]
        return all(any(guid in log for guid in answers) for log in logs)

    eventually(both_were_asked, what="the Service has led to either replica", seconds=60)

    assert {answer.status for answer in answers.values()} <= {200, 202}
    (name,) = {name for answer in answers.values() for name in answer.runs}
    assert replicas.twins_of(name) == [name]


# ---------------------------------------------------------------- replacing pods
def test_an_update_refuses_no_delivery_and_loses_none(replicas: Installation, measured: Measured) -> None:
    before = replicas.names()
    with Sender(replicas) as sender:
        kubectl("rollout", "restart", "deployment/receiver", "-n", NAMESPACE)
        replicas.wait_ready()
        eventually(lambda: before.isdisjoint(replicas.names()), what="other pods", seconds=60)
        replicas.wait_for_replicas(2)
        sender.wait_accepted(5)

    measured(sender.summary())
    assert sender.refused() == []
    assert sender.check_promises() >= FEWEST


def test_a_pod_that_is_deleted_refuses_no_delivery_and_loses_none(replicas: Installation, measured: Measured) -> None:
    with Sender(replicas) as sender:
        kubectl("delete", "pod", replicas.pod()["metadata"]["name"], "-n", NAMESPACE)
        replicas.wait_for_replicas(2)
        sender.wait_accepted(5)

    measured(sender.summary())
    assert sender.refused() == []
    assert sender.check_promises() >= FEWEST


def test_a_killed_replica_loses_nothing_that_was_acknowledged(replicas: Installation, measured: Measured) -> None:
    victim = replicas.pod()["metadata"]["name"]
    with Sender(replicas) as sender:
        kubectl("delete", "pod", victim, "-n", NAMESPACE, "--force", "--grace-period=0", "--wait=false")
        sender.wait_accepted(5)
        replicas.wait_for_replicas(2)
        sender.wait_accepted(5)

    measured(sender.summary())
    assert len(sender.refused()) <= IN_FLIGHT
    assert sender.check_promises() >= FEWEST


def test_a_drained_node_takes_one_replica_at_a_time_and_refuses_no_delivery(
    replicas: Installation, measured: Measured
) -> None:
    first, second = replicas.names()
    path = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/receiver"

    def allowed() -> bool:
        return bool(replicas.cluster.call("GET", path)["status"].get("disruptionsAllowed") == 1)

    eventually(allowed, what="one disruption is allowed of two replicas", seconds=60)
    with Sender(replicas) as sender:
        evict(replicas, first)
        with pytest.raises(ApiError, match="disruption budget") as refused:
            evict(replicas, second)
        eventually(lambda: first not in replicas.names(), what="the evicted pod is about to end", seconds=60)
        replicas.wait_for_replicas(2)
        sender.wait_accepted(5)

    measured(sender.summary())
    assert refused.value.status == 429
    assert second in replicas.names()
    assert sender.refused() == []
    assert sender.check_promises() >= FEWEST


def evict(replicas: Installation, name: str) -> None:
    """Ask for a pod's eviction, as `kubectl drain` does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
    replicas.cluster.call("POST", f"{CORE}/pods/{name}/eviction", eviction)


# ---------------------------------------------------------------- the secret, and the journal
def test_a_rotation_of_the_secret_refuses_no_delivery(replicas: Installation, measured: Measured) -> None:
    sender = rotate(replicas)

    measured(sender.summary())
    assert sender.refused() == []
    assert sender.check_promises() >= FEWEST


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
