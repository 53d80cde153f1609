"""The receiver in a real cluster: what each container holds, and a push by curl to the Service."""

import secrets
import time
from collections.abc import Callable

import pytest

from receiver.core.pipelinerun import KEY
from tests.e2e.support.cluster import eventually, kubectl
from tests.e2e_receiver.installation import NAMESPACE, Installation
from tests.e2e_receiver.sender import Sender, new_push

pytestmark = pytest.mark.e2e_full

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
SECRET = "/etc/receiver/secrets/github"
REFUSED_SECONDS = 90
"""How long deliveries may be refused while the only pod is replaced, on a slow node."""


def can_read(installation: Installation, container: str, file: str) -> bool:
    """Tell whether a container can read a file that is not empty."""
    try:
        installation.execute(container, "test", "-s", file)
    except AssertionError:
        return False
    return True


# ---------------------------------------------------------------- the pod
def test_the_cluster_token_is_in_work_only_and_the_webhook_secret_in_serve_only(installation: Installation) -> None:
    files = {c: (can_read(installation, c, TOKEN), can_read(installation, c, SECRET)) for c in ("serve", "work")}

    assert files == {"serve": (False, True), "work": (True, False)}


def test_the_planes_are_different_users_without_privileges_on_a_read_only_root(installation: Installation) -> None:
    users = {container: installation.execute(container, "id", "-u").strip() for container in ("serve", "work")}

    assert users == {"serve": "65531", "work": "65532"}
    for container in users:
        status = installation.execute(container, "cat", "/proc/1/status")
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        for folder in ("/", "/etc/receiver", "/opt/receiver", "/var/lib"):
            with pytest.raises(AssertionError, match=r"Read-only file system|Permission denied"):
                installation.execute(container, "touch", f"{folder}/x")


def test_no_service_put_its_address_into_the_environment(installation: Installation) -> None:
    names = {line.partition("=")[0] for line in installation.execute("serve", "env").splitlines()}

    ours = {"RECEIVER_CONFIG", "RECEIVER__SERVE__METRICS_LISTEN"}
    assert {name for name in names if name.startswith("RECEIVER")} == ours


def test_both_planes_can_write_all_files_of_the_journal(installation: Installation) -> None:
    listed = installation.execute("serve", "sh", "-c", "cd /var/lib/receiver && stat -c '%n %a %g' journal.db*")

    files = {line.split()[0]: line.split()[1:] for line in listed.splitlines()}
    assert set(files) == {"journal.db", "journal.db-shm", "journal.db-wal", "journal.db-wake"}
    assert list(files.values()) == [["660", "65532"]] * 4


def test_the_initial_steps_migrated_and_checked(installation: Installation) -> None:
    pod = installation.pod()

    states = {s["name"]: s["state"]["terminated"]["exitCode"] for s in pod["status"]["initContainerStatuses"]}
    assert states == {"journal": 0, "check": 0}


def test_the_worker_proves_its_rights_and_templates(installation: Installation) -> None:
    lines = installation.execute("work", "receiver", "check", "--cluster").splitlines()

    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len([line for line in lines if "(dry run)" in line]) == 2


# ---------------------------------------------------------------- a push
def test_a_push_by_curl_to_the_service_starts_a_run_once_and_its_outcome_is_listed(installation: Installation) -> None:
    delivery = new_push("main")

    answer = installation.deliver(delivery)

    assert answer.status == 202
    (name,) = answer.runs
    run = installation.wait_for_run(name)
    again = installation.deliver(delivery)
    assert again.runs == [name]
    assert again.body["result"] == "duplicate"
    assert installation.runs_of(run["metadata"]["annotations"][KEY]) == [name]
    installation.cancel(name)

    def finished() -> bool:
        jobs = [job for record in installation.deliveries() for job in record["jobs"] if job["run_name"] == name]
        return bool(jobs) and all(job["state"] == "finished" for job in jobs)

    eventually(finished, what=f"the outcome of {name} in the list", seconds=90, every=1)


def test_a_forged_push_starts_nothing(installation: Installation) -> None:
    answer = installation.deliver(new_push(), secret="not the secret")

    assert (answer.status, answer.runs) == (401, [])


# ---------------------------------------------------------------- restarts
def kill(installation: Installation) -> None:
    """Kill both planes without notice."""
    name = installation.pod()["metadata"]["name"]
    kubectl("delete", "pod", name, "-n", NAMESPACE, "--force", "--grace-period=0", "--wait=false")


def restart(installation: Installation) -> None:
    """Restart as an upgrade does."""
    assert installation.pod()
    kubectl("rollout", "restart", "deployment/receiver", "-n", NAMESPACE)


@pytest.mark.parametrize("disturb", [kill, restart])
def test_no_acknowledged_push_is_lost_or_doubled_while_the_pod_is_replaced(
    installation: Installation, disturb: Callable[[Installation], None]
) -> None:
    before = installation.pod()["metadata"]["name"]
    with Sender(installation) as sender:
        disturb(installation)
        installation.wait_ready()
        eventually(lambda: installation.names() - {before}, what="another pod", seconds=60)
        sender.wait_accepted(20, since=time.monotonic())

    print(f"deliveries refused for {sender.refused_seconds():.1f} s ({disturb.__name__})")  # noqa: T201 - for pytest -s
    assert sender.refused_seconds() < REFUSED_SECONDS
    assert sender.check_promises() >= 25


# ---------------------------------------------------------------- rotation
def test_a_rotation_of_the_secret_refuses_no_delivery(installation: Installation) -> None:
    pod = installation.pod()["metadata"]
    old, new = installation.secret, secrets.token_urlsafe(24)
    ping = b'{"zen":"Design for failure.","hook_id":1}'
    assert installation.deliver(ping, secret=new, event="ping").status == 401

    installation.write_secret({"github": old, "github-new": new})

    def arrived() -> bool:
        assert installation.deliver(ping, secret=old, event="ping").status == 200
        return installation.deliver(ping, secret=new, event="ping").status == 200

    eventually(arrived, what="the new secret", seconds=120)
    installation.write_secret({"github": new})
    installation.secret = new

    def old_is_gone() -> bool:
        assert installation.deliver(ping, event="ping").status == 200
        return installation.deliver(ping, secret=old, event="ping").status == 401

    eventually(old_is_gone, what="the end of the old secret", seconds=120)
    same = installation.pod()
    assert same["metadata"]["name"] == pod["name"]
    assert not [status for status in same["status"]["containerStatuses"] if status["restartCount"]]


# ---------------------------------------------------------------- network and backup
def test_the_private_port_is_not_reachable_by_the_service(installation: Installation) -> None:
    service = installation.cluster.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services/receiver")

    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


def test_a_backup_can_be_taken_while_deliveries_come_in(installation: Installation) -> None:
    installation.deliver(new_push())

    installation.execute("work", "receiver", "journal", "backup", "/var/lib/receiver/backup.db")

    count = (
        "from pysqlite3 import dbapi2 as sqlite;"
        "print(sqlite.connect('/var/lib/receiver/backup.db').execute('select count(*) from jobs').fetchone()[0])"
    )
    stored = int(installation.execute("work", "/opt/receiver/bin/python3", "-I", "-c", count))
    installation.execute("work", "rm", "/var/lib/receiver/backup.db")
    assert stored >= 1
