"""What docs/install.md and docs/operations.md tell whoever runs the receiver, typed into a real cluster."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support.cluster import CHECKOUT, Cluster, Object, eventually
from tests.e2e.support.runs import RBAC
from tests.e2e_receiver.installation import Installation
from tests.e2e_receiver.sender import Sender, new_push
from tests.support.guide import filled_in, run, step
from tests.support.operations import IN_WORK, NOT_TYPED, PAGES, WITHIN_SENTENCES, commands
from tests.support.planes import free_port
from tests.support.signing import new_guid

pytestmark = pytest.mark.e2e_full

DEAD = "A job is dead"
"""The page whose commands need jobs that are dead: they have a test of their own."""


def typed(installation: Installation, command: str) -> str:
    """Run a command of docs/operations.md where its first sentences say, and return what it prints."""
    return run(re.sub("^receiver ", IN_WORK, command), folder=installation.folder)


# ---------------------------------------------------------------- network
def test_the_guide_finds_the_api_server_to_narrow_the_network(installation: Installation) -> None:
    found = run(step("Narrow the network", 0), folder=installation.folder)

    for address in installation.cluster.addresses():
        assert address in found


# ---------------------------------------------------------------- payloads by hand
def test_a_payload_delivered_as_the_guide_says_is_accepted(installation: Installation) -> None:
    (installation.folder / "push.json").write_bytes(new_push())
    command = filled_in(step("Replay a payload", 0), {"http://127.0.0.1:8000/webhook": installation.url})

    said = run(command, folder=installation.folder)

    (name,) = re.findall(r'"run": ?"([^"]+)"', said)
    installation.promised.add(name)
    assert re.match(r"HTTP/1\.1 202 ", said)
    assert installation.twins_of(name) == [name]


def test_a_push_replayed_as_the_guide_says_gets_a_second_run(installation: Installation) -> None:
    guid = new_guid()
    (first,) = installation.deliver(new_push(), guid=guid).runs
    installation.wait_for_run(first)

    said = run(filled_in(step("Replay a payload", 2), {"72d3162e": guid}), folder=installation.folder)

    (second,) = re.findall(r"^new run (\S+) ", said, re.MULTILINE)
    installation.promised.add(second)
    assert second != first
    installation.wait_for_run(second)


def test_a_payload_reaches_a_receiver_without_a_public_address(installation: Installation) -> None:
    (installation.folder / "push.json").write_bytes(new_push())
    port = str(free_port())

    with forwarding(filled_in(step("Replay a payload", 1), {"8000": port}), folder=installation.folder):
        said = run(filled_in(step("Replay a payload", 0), {"8000": port}), folder=installation.folder)

    (name,) = re.findall(r'"run": ?"([^"]+)"', said)
    installation.promised.add(name)
    assert re.match(r"HTTP/1\.1 202 ", said)
    installation.wait_for_run(name)


@contextmanager
def forwarding(command: str, *, folder: Path) -> Iterator[None]:
    """Run a command that forwards a port for the length of a with block, from when it says that it does."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            assert said.startswith("Forwarding from 127.0.0.1:"), said
            yield
        finally:
            process.terminate()


# ---------------------------------------------------------------- change, go back
def test_a_change_of_the_configuration_is_made_and_taken_back_as_the_guide_says(installation: Installation) -> None:
    def shown() -> str:
        return installation.execute("serve", "cat", "/etc/receiver/receiver.yaml")

    before = shown()
    configuration = installation.folder / "config" / "receiver.yaml"
    original = configuration.read_text()
    for text, expected in ((f"{original}# changed\n", f"{before}# changed\n"), (original, before)):
        configuration.write_text(text)
        run(step("Change the configuration, upgrade, go back", 0), folder=installation.folder)
        assert shown() == expected

    installation.wait_ready()
    (name,) = installation.deliver(new_push()).runs
    installation.wait_for_run(name)


# ---------------------------------------------------------------- what whoever is on call types
SHOWS = {
    "kubectl get pods -n striv-receiver": r"^receiver-\S+ +2/2 +Running",
    "kubectl get pipelineruns -n striv-ci": "{run}",
    "kubectl get pipelineruns -n striv-ci --show-labels": "{run}",
    "receiver deliveries list": "{run}",
    "receiver deliveries list --limit 100": "{run}",
    "kubectl describe quota -n striv-ci": "count/jobs.batch|limits.memory",
    "kubectl get --raw '/readyz?verbose'": "readyz check passed",
    "kubectl describe networkpolicy receiver-to-api-server -n striv-receiver": r"To Port: +6443",
    "kubectl get endpointslices -n default -l kubernetes.io/service-name=kubernetes": r"^kubernetes +IPv4 +\d+",
    "kubectl describe secret receiver-webhook -n striv-receiver": r"^github: +\d+ bytes",
    "kubectl get networkpolicies -n striv-receiver": "receiver-to-api-server",
    "kubectl exec -n striv-receiver deploy/receiver -c work -- grep /var/lib/receiver /proc/mounts": r" rw[, ]",
    "kubectl exec -n striv-receiver deploy/receiver -c work -- ls -la /var/lib/receiver": r"-rw-rw----.* journal\.db$",
    "kubectl exec -n striv-receiver deploy/receiver -c work -- id": r"uid=65532.*groups=.*65532",
    "kubectl exec -n striv-receiver deploy/receiver -c work -- receiver check --cluster": "dry run",
}
"""What some commands have to show, as patterns; the others may say whatever is so."""


@pytest.mark.parametrize("page", [page for page in PAGES if page != DEAD and set(commands(page)) - set(NOT_TYPED)])
def test_all_that_a_page_says_can_be_typed_and_the_receiver_works_afterwards(
    installation: Installation, page: str
) -> None:
    name = started(installation)
    for command in commands(page):
        if command in NOT_TYPED:
            continue
        if "--previous" in command:
            end_container(installation, "serve")
        said = typed(installation, command)
        assert re.search(SHOWS.get(command, ".").format(run=name), said, re.MULTILINE), f"{command}\n{said}"
        if "can-i" in command:
            assert said == "yes\n", command
    installation.wait_ready()
    started(installation)


def started(installation: Installation) -> str:
    """Push, and return the name of the run when it exists."""
    (name,) = installation.deliver(new_push()).runs
    installation.wait_for_run(name)
    return name


def end_container(installation: Installation, container: str) -> None:
    """End a container's program and return when another runs in its place, so that there is a previous one."""

    def restarts() -> int:
        statuses: list[Object] = installation.pod()["status"]["containerStatuses"]
        return sum(status["restartCount"] for status in statuses if status["name"] == container)

    before = restarts()
    # Whether the shell that sent the signal has an end of its own is nobody's business.
    installation.execute(container, "sh", "-c", "kill 1 & true")
    eventually(lambda: restarts() > before, what=f"another {container}", seconds=60)
    installation.wait_ready()


def test_what_stands_within_a_sentence_can_be_typed_too(installation: Installation) -> None:
    guid = new_guid()
    (name,) = installation.deliver(new_push(), guid=guid).runs
    installation.wait_for_run(name)

    for command in WITHIN_SENTENCES:
        said = typed(installation, command.replace("NAME", name).replace("ID", guid))
        installation.promised.update(re.findall(r"^new run (\S+) ", said, re.MULTILINE))
        assert said, command


def test_what_is_tried_from_outside_says_whether_the_way_and_the_secret_are_good(installation: Installation) -> None:
    (installation.folder / "push.json").write_bytes(new_push())
    host = {"https://HOST/webhook": installation.url}
    (curl,) = re.findall(r"`(curl [^`]+)`", PAGES["No delivery comes"])
    (send,) = [command for command in commands("Deliveries are answered 401") if "receiver send" in command]
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    assert " 405 " in run(filled_in(curl, host), folder=installation.folder).splitlines()[0]
    assert '"ping"' in run(filled_in(send, host), folder=installation.folder, environment=path)
    with pytest.raises(AssertionError, match="401"):
        run(
            filled_in(send, {**host, "config/secrets/github": "k8s/base/rbac.yaml"}),
            folder=installation.folder,
            environment=path,
        )


# ---------------------------------------------------------------- dead jobs
def test_dead_jobs_are_seen_mended_revived_and_put_aside_as_their_page_says(installation: Installation) -> None:
    look, show, check, retry, retry_all, dismiss, dismiss_all = commands(DEAD)

    def listed() -> list[str]:
        return typed(installation, look).splitlines()

    def die() -> tuple[str, str]:
        """Push what the worker may not start, and return its delivery and its run."""
        guid = new_guid()
        (name,) = installation.deliver(new_push(), guid=guid).runs
        eventually(
            lambda: any(name in line and "dead: refused" in line for line in listed()), what="dead", seconds=30, every=1
        )
        return guid, name

    def on(command: str, delivery: str) -> str:
        return typed(installation, filled_in(command, {"ID": delivery}))

    with without_rights(installation.cluster):
        one_aside, all_aside = die(), die()
        assert "forbidden" in on(show, one_aside[0])
        with pytest.raises(AssertionError, match=r"FAIL .* may NOT create pipelineruns"):
            typed(installation, check)
        assert "1 dead job dismissed" in on(dismiss, one_aside[0])
        assert "1 dead job dismissed" in typed(installation, dismiss_all)
        alone, with_others = die(), die()

    eventually(lambda: can_create() == "yes\n", what="the rights are back", seconds=30)
    assert all(line.startswith("ok ") for line in typed(installation, check).splitlines())
    assert "1 dead job waiting again" in on(retry, alone[0])
    installation.wait_for_run(alone[1])
    assert "1 dead job waiting again" in typed(installation, retry_all)
    installation.wait_for_run(with_others[1])
    assert "dismissed" in on(show, all_aside[0])
    assert installation.run(one_aside[1]) is None
    assert installation.run(all_aside[1]) is None


@contextmanager
def without_rights(cluster: Cluster) -> Iterator[None]:
    """Take the worker's rights in the namespace of the runs away for the length of a with block."""
    with cluster.changed(f"{RBAC}/roles/receiver", lambda role: role.update(rules=[])):
        eventually(lambda: can_create() != "yes\n", what="the rights are gone", seconds=30)
        yield


def can_create() -> str:
    """Ask the API server whether the worker may create runs, as its page says; its answer comes with an exit code."""
    (ask,) = [command for command in commands("The API server is slow or refuses us") if "can-i create" in command]
    return run(f"{ask} || true", folder=CHECKOUT)


# ---------------------------------------------------------------- backup
def test_a_backup_taken_amid_pushes_brings_the_journal_back_as_it_was(installation: Installation) -> None:
    earlier, later = new_push(), new_push()
    (kept,) = installation.deliver(earlier).runs
    with Sender(installation) as sender:
        run(step("Back up, restore", 0), folder=installation.folder)
        sender.wait_accepted(1)
    assert sender.refused() == []
    (lost,) = installation.deliver(later).runs
    installation.wait_for_run(lost)
    image = installation.pod()["spec"]["containers"][0]["image"]

    run(
        filled_in(step("Back up, restore", 1), {"registry.example.com/ci/striv-receiver:0.1.0": image}),
        folder=installation.folder,
    )
    installation.wait_for_replicas(1)
    installation.wait_ready()

    assert (installation.folder / "journal-backup.db").stat().st_mode & 0o077 == 0
    runs = set(installation.outcomes())
    assert kept in runs
    assert lost not in runs
    # The push that the copy does not know is delivered again; its run exists already.
    assert installation.deliver(earlier).body["result"] == "duplicate"
    again = installation.deliver(later)
    assert (again.status, again.body["result"], again.runs) == (202, "accepted", [lost])

    def recognised() -> bool:
        return bool(installation.outcomes()[lost]["state"] == "started")

    eventually(recognised, what="the run that was there already", seconds=60, every=1)
    assert installation.twins_of(lost) == [lost]
