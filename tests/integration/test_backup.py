"""`receiver journal backup` beside `receiver serve`: whatever was acknowledged before is in the copy."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from receiver.journal.schema import deliveries
from tests.support.folders import write_folder
from tests.support.http import Delivery
from tests.support.journals import opened, rows
from tests.support.public import CHECKOUT, FrontPlane
from tests.support.pushes import encoded, push_payload
from tests.support.signing import delivery_headers, new_guid
from tests.support.waiting import wait_until


def test_a_backup_beside_the_public_plane_holds_what_was_acknowledged_and_refuses_nobody(tmp_path: Path) -> None:
    file = write_folder(tmp_path / "config", log={"format": "json"})
    plane = FrontPlane(file, {})
    acknowledged: list[str] = []
    statuses: set[int] = set()
    end = threading.Event()

    def deliver() -> None:
        while not end.is_set():
            body, guid = encoded(push_payload()), new_guid()
            answer = plane.deliver(Delivery(body, tuple(delivery_headers(body, guid=guid).items())))
            statuses.add(answer.status)
            acknowledged.append(guid)

    github = threading.Thread(target=deliver)
    github.start()
    try:
        wait_until(lambda: len(acknowledged) >= 20, what="twenty deliveries")
        before = list(acknowledged)
        (tmp_path / "copy").mkdir()
        command = [sys.executable, "-m", "receiver", "--config", str(file), "journal", "backup"]
        done = subprocess.run(
            [*command, str(tmp_path / "copy" / "journal.db")],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        after = len(acknowledged)
        wait_until(lambda: len(acknowledged) >= after + 5, what="more deliveries")
    finally:
        end.set()
        github.join()
        assert plane.close() == 0
    assert statuses == {202}
    with opened(tmp_path / "copy", migrated=False) as copy:
        assert {row["guid"] for row in rows(copy, deliveries)} >= set(before)
