"""A rotation as docs/install.md tells it, while pushes come in that are signed with what GitHub's form holds."""

from concurrent.futures import ThreadPoolExecutor

from tests.e2e.support.cluster import eventually
from tests.e2e_receiver.installation import CORE, PING, Installation
from tests.e2e_receiver.sender import Sender
from tests.support.guide import run, step

TRIES = 24
"""So many deliveries in a row miss one of two pods less than once in a million times."""


def rotate(installation: Installation) -> Sender:
    """Rotate the webhook's secret and return who pushed meanwhile, with all the answers."""
    pods = state_of(installation)
    old, file = installation.secret, installation.folder / "config" / "secrets" / "github-new"
    with Sender(installation) as sender, ThreadPoolExecutor(1) as pool:
        adding = pool.submit(run, step("Rotate the secret", 0), folder=installation.folder)
        eventually(lambda: "github-new" in keys(installation) or adding.done(), what="the new key", seconds=30)
        installation.hurry_kubelet()
        assert "github-new" in adding.result()
        sender.wait_accepted(5)
        installation.secret = file.read_text().strip()
        sender.wait_accepted(5)
        run(step("Rotate the secret", 1), folder=installation.folder)
        installation.hurry_kubelet()

        def old_is_gone() -> bool:
            return all(installation.deliver(PING, secret=old, event="ping").status == 401 for _ in range(TRIES))

        eventually(old_is_gone, what="the end of the old secret", seconds=120)
        sender.wait_accepted(5)
    assert state_of(installation) == pods
    return sender


def keys(installation: Installation) -> set[str]:
    """Return the keys of the webhook's Secret."""
    return set(installation.cluster.call("GET", f"{CORE}/secrets/receiver-webhook")["data"])


def state_of(installation: Installation) -> dict[str, list[int]]:
    """Return how often each container of each pod was restarted."""
    return {
        pod["metadata"]["name"]: [status["restartCount"] for status in pod["status"]["containerStatuses"]]
        for pod in installation.pods()
    }
