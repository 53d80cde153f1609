"""The receiver in a real cluster: what each container holds and what a push by curl does."""

from collections.abc import Callable

import pytest

from tests.e2e.support.admission import dry_run, run_body
from tests.e2e.support.cluster import ApiError, eventually, kubectl
from tests.e2e.support.hostile_runs import HOSTILE_RUNS
from tests.e2e.support.refusals import changed, refusal
from tests.e2e.support.runs import TEKTON
from tests.e2e_receiver.installation import NAMESPACE, Installation
from tests.e2e_receiver.rotation import rotate
from tests.e2e_receiver.sender import SENDERS, Sender, new_push
from tests.support.signing import new_guid

pytestmark = pytest.mark.e2e_full

Measured = Callable[[str], None]
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
SECRET = "/etc/receiver/secrets/github"
FEWEST = 10 * SENDERS
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


def test_the_worker_may_create_the_runs_of_its_templates_and_nothing_else(installation: Installation) -> None:
    worker = installation.cluster.as_service_account(NAMESPACE, "receiver")

    dry_run(worker, f"{TEKTON}/pipelineruns", run_body())
    for variant, change in HOSTILE_RUNS.items():
        refused = refusal(worker, f"{TEKTON}/pipelineruns", changed(run_body(), change))
        assert "striv-ci-pipelineruns" in refused.message, variant
    with pytest.raises(ApiError, match=r'^403 .*cannot create resource "taskruns"'):
        dry_run(worker, f"{TEKTON}/taskruns", {"apiVersion": "tekton.dev/v1", "kind": "TaskRun"})


# ---------------------------------------------------------------- a push
def test_a_push_by_curl_to_the_service_starts_a_run_once_and_its_end_is_listed(installation: Installation) -> None:
    delivery, guid = new_push("main"), new_guid()

    answer = installation.deliver(delivery, guid=guid)

    assert answer.status == 202
    (name,) = answer.runs
    installation.wait_for_run(name)
    for again in (installation.deliver(delivery, guid=guid), installation.deliver(delivery)):
        assert again.runs == [name]
        assert again.body["result"] == "duplicate"
    assert installation.twins_of(name) == [name]
    installation.cancel(name)

    def ended() -> bool:
        return bool(installation.outcomes()[name]["state"] == "finished")

    eventually(ended, what=f"the outcome of {name} in the list", seconds=90, every=1)
    assert installation.outcomes()[name]["result"] == "failed"


def test_a_forged_push_starts_nothing(installation: Installation) -> None:
    answer = installation.deliver(new_push(), secret="not the secret")

    assert (answer.status, answer.runs) == (401, [])


HOSTILE_BRANCHES = [
    "--upload-pack=id",
    "-x",
    "held/;id",
    "held/|id",
    "held/&&id",
    "held/`id`",
    "held/$HOME",
    "held/${IFS}id",
    "held/$$x",
    "held/>x",
    "held/'",
    'held/"',
    'held/","after"',
    "held/@",
    "held/{{.x}}",
    "held/%s%n%00",
    "held/#!",
    "held/!x",
    "held/<script>",
    "held/null",
    "held/é\u202e\U0001f600",
    "held/" + "x" * 230,
]
"""Git allows branches of such names; the first two have no place below held/."""


@pytest.mark.parametrize("branch", HOSTILE_BRANCHES)
def test_a_branch_reaches_its_run_as_it_is_named_however_hostile(installation: Installation, branch: str) -> None:
    answer = installation.deliver(new_push(branch))

    assert answer.status == 202, answer
    (name,) = answer.runs
    params = {param["name"]: param["value"] for param in installation.wait_for_run(name)["spec"]["params"]}
    installation.cancel(name)
    assert params["branch"] == branch


@pytest.mark.parametrize(
    "branch", ["$(id)", "held/$(id)", "held/x$(params.revision)", "held/$(context.pipelineRun.uid)"]
)
def test_a_branch_that_would_be_expanded_is_refused(installation: Installation, branch: str) -> None:
    answer = installation.deliver(new_push(branch))

    assert (answer.status, answer.body["error"], answer.runs) == (400, "param", [])


# ---------------------------------------------------------------- restarts
def kill(installation: Installation) -> None:
    """Take the pod away without notice."""
    name = installation.pod()["metadata"]["name"]
    kubectl("delete", "pod", name, "-n", NAMESPACE, "--force", "--grace-period=0", "--wait=false")


def restart(installation: Installation) -> None:
    """Restart as an upgrade does."""
    assert installation.pod()
    kubectl("rollout", "restart", "deployment/receiver", "-n", NAMESPACE)


@pytest.mark.parametrize("disturb", [kill, restart])
def test_no_acknowledged_push_is_lost_or_doubled_while_the_pod_is_replaced(
    installation: Installation, disturb: Callable[[Installation], None], measured: Measured
) -> None:
    before = installation.pod()["metadata"]["name"]
    with Sender(installation) as sender:
        disturb(installation)
        eventually(lambda: installation.names() - {before}, what="another pod", seconds=60)
        installation.wait_for_replicas(1)
        sender.wait_accepted(5)

    measured(sender.summary())
    assert sender.refused_seconds() < REFUSED_SECONDS
    assert sender.check_promises() >= FEWEST


# ---------------------------------------------------------------- rotation
def test_a_rotation_of_the_secret_refuses_no_delivery(installation: Installation, measured: Measured) -> None:
    sender = rotate(installation)

    measured(sender.summary())
    assert sender.refused() == []
    assert sender.check_promises() >= FEWEST


# ---------------------------------------------------------------- network
def test_the_private_port_is_not_reachable_by_the_service(installation: Installation) -> None:
    service = installation.cluster.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services/receiver")

    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
