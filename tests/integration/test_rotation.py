"""A rotation as docs/install.md tells it, against `receiver serve`: nothing but the mounted Secret changes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.folders import write_folder
from tests.support.http import Delivery
from tests.support.public import FrontPlane
from tests.support.pushes import encoded, ping_payload, push_payload
from tests.support.secret_volume import SecretVolume
from tests.support.signing import delivery_headers
from tests.support.waiting import wait_until

OLD, NEW = "the secret until today", "the secret from today"


def signed(secret: str, *, event: str = "push") -> Delivery:
    body = encoded(push_payload() if event == "push" else ping_payload())
    return Delivery(body, tuple(delivery_headers(body, secret=secret, event=event).items()))


class GitHub(threading.Thread):
    """Delivers one push after another, signed with what its form holds, and notes the answers."""

    def __init__(self, plane: FrontPlane) -> None:
        super().__init__()
        self._plane = plane
        self._end = threading.Event()
        self.secret = OLD
        self.answers: list[tuple[str, int]] = []

    def run(self) -> None:
        while not self._end.is_set():
            secret = self.secret
            self.answers.append((secret, self._plane.deliver(signed(secret)).status))

    def wait_for(self, number: int, secret: str) -> None:
        """Return when so many more pushes have been answered that were signed with `secret`."""
        wanted = self.count(secret) + number
        wait_until(lambda: self.count(secret) >= wanted, what=f"{number} more pushes")

    def count(self, secret: str) -> int:
        return sum(signer == secret for signer, _ in list(self.answers))

    def stop(self) -> None:
        self._end.set()
        self.join()


def test_no_push_is_refused_while_a_secret_is_added_used_and_the_old_one_removed(tmp_path: Path) -> None:
    volume = SecretVolume(tmp_path / "mount", {"github": OLD.encode()})
    file = write_folder(
        tmp_path / "config", secrets={}, serve={"secrets": [str(volume.folder)]}, log={"format": "json"}
    )
    plane = FrontPlane(file, {})
    github = GitHub(plane)
    try:
        assert plane.deliver(signed(NEW, event="ping")).status == 401
        github.start()
        github.wait_for(5, OLD)
        volume.write({"github": OLD.encode(), "github-new": NEW.encode() + b"\n"})
        github.wait_for(5, OLD)
        github.secret = NEW
        github.wait_for(5, NEW)
        # Its name changes too: what was new is the one from now on.
        volume.write({"github": NEW.encode()})
        github.wait_for(5, NEW)
        wait_until(lambda: plane.deliver(signed(OLD, event="ping")).status == 401, what="the end of the old secret")
        github.wait_for(5, NEW)
    finally:
        if github.is_alive():
            github.stop()
        assert plane.close() == 0
    assert [answer for answer in github.answers if answer[1] != 202] == []
    assert [line["event"] for line in plane.log() if line["event"].startswith("secret ")][-1] == "secret taken away"
    assert OLD not in plane.log_file.read_text()
    assert NEW not in plane.log_file.read_text()


def test_amid_forged_pushes_each_secret_counts_from_the_moment_it_is_there(tmp_path: Path) -> None:
    """Forged requests share their looks at the files; nobody may be refused by a look that came before the secret did."""
    volume = SecretVolume(tmp_path / "mount", {"github": OLD.encode()})
    file = write_folder(tmp_path / "config", secrets={}, serve={"secrets": [str(volume.folder)]})
    plane = FrontPlane(file, {})
    ended = threading.Event()

    def forge() -> set[int]:
        statuses = set()
        while not ended.is_set():
            statuses.add(plane.deliver(signed("a guess")).status)
        return statuses

    try:
        with ThreadPoolExecutor(4) as pool:
            forgers = [pool.submit(forge) for _ in range(4)]
            try:
                for number in range(30):
                    secret = f"secret {number}"
                    volume.write({"github": secret.encode()})
                    assert plane.deliver(signed(secret)).status == 202
            finally:
                ended.set()
        assert set().union(*(forger.result() for forger in forgers)) == {401}
    finally:
        assert plane.close() == 0
