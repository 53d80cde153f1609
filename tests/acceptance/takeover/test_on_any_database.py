"""The public plane in an attacker's hands: its files and its database role, used as it never would.

It can bring false pushes of configured repositories. Everything else that it tries ends here.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from receiver.core.events import decode_push
from receiver.core.identity import job_key, push_keys, run_name
from tests.acceptance.takeover.attack import Attack
from tests.support.pushes import REPOSITORY, encoded, seeded_push

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]
MEMORY_KIB = 400 * 1024
"""More than a worker needs with all bodies of one claim in hand, and less than one of the bombs unpacks to."""


def foreign(**changes: Any) -> bytes:
    """A push to a repository that nobody configured."""
    payload = seeded_push("foreign")
    repository = {**payload["repository"], "full_name": "mallory/miner", "clone_url": "https://evil.example/miner"}
    return encoded({**payload, "repository": repository, **changes})


def test_no_forged_job_runs_another_repository_template_namespace_or_url(attack: Attack) -> None:
    attack.start("serve", "work")
    own = encoded(seeded_push("own"))
    bomb = zlib.compress(own[:-1] + b" " * 512 * 1024 * 1024 + b"}", 9)
    refused = {
        "another repository": attack.forge(foreign()),
        "another repository under our name": attack.forge(foreign(after="a" * 40), repository=REPOSITORY),
        "another trigger": attack.forge(encoded(seeded_push("1")), trigger="miner"),
        "a branch that is filtered": attack.forge(encoded(seeded_push("2", branch="gh-readonly-queue/main/x"))),
        "a deleted branch": attack.forge(encoded(seeded_push("3", after="0" * 40, deleted=True))),
        "a ref that Tekton would expand": attack.forge(encoded(seeded_push("4", branch="$(context.taskRun.name)"))),
        "a head that is no commit id": attack.forge(
            encoded(seeded_push("5")).replace(b'"after":"', b'"after":"--upload-pack=')
        ),
        "a key of its own": attack.forge(encoded(seeded_push("6")), job_key=b"\7" * 32),
        "a payload of another push": attack.forge(encoded(seeded_push("7")), push_key=b"\7" * 32),
        "another generation's key": attack.forge(encoded(seeded_push("8")), job_key=job_key(b"\1" * 32, "striv", 2)),
        "garbage": attack.forge(encoded(seeded_push("9")), stored=b"\x00\xff garbage"),
        "half a payload": attack.forge(encoded(seeded_push("10")), stored=zlib.compress(own)[:-9]),
        "nothing": attack.forge(encoded(seeded_push("11")), stored=b""),
        "no JSON": attack.forge(b"\xff\xfe"),
        "a bomb": attack.forge(encoded(seeded_push("12")), stored=bomb),
        # PostgreSQL lets no larger one in.
        "a huge body": attack.forge(encoded(seeded_push("13")), stored=bytes(19 * 1024 * 1024)),
    }
    pushed = encoded(seeded_push("false push", pusher={"name": "mallory"}))
    lies: dict[str, Any] = {
        "repository": "mallory/miner",
        "ref": "refs/heads/lies",
        "head_sha": "f" * 40,
        "run_name": "kube-proxy",
    }
    allowed = attack.forge(pushed, **lies)
    attack.wait_settled()
    states = {what: attack.job(key)["state"] for what, key in refused.items()}
    assert states == dict.fromkeys(refused, "dead")
    reasons = Counter(attack.job(key)["reason"] for key in refused.values())
    assert reasons["tampered"] == 3
    # What remains is a false push of the configured repository: with the configured template, and truly labelled.
    (run,) = attack.runs()
    template = yaml.safe_load((attack.planes.folder / "pipelineruns/striv.yaml").read_text())
    params = {param["name"]: param["value"] for param in run["spec"]["params"]}
    configured = {param["name"]: param["value"] for param in template["spec"]["params"]}
    metadata = run["metadata"]
    assert (metadata["namespace"], metadata["name"]) == (attack.namespace, run_name("striv-", allowed))
    assert params["repo-url"] == configured["repo-url"]
    assert params["revision"] == json.loads(pushed)["after"]
    assert run["spec"]["pipelineRef"]["name"] == template["spec"]["pipelineRef"]["name"]
    assert metadata["annotations"]["striv-receiver.dev/repository"] == REPOSITORY
    assert metadata["annotations"]["striv-receiver.dev/ref"] == "refs/heads/main"
    attack.expect_alive()
    status = Path(f"/proc/{attack.planes.processes['work'].pid}/status").read_text()
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < MEMORY_KIB


def test_a_payload_that_was_put_in_place_before_the_push_came_does_not_run_in_its_name(attack: Attack) -> None:
    """It knows a push before it stores it, so it can store a body that says something else under the push's key."""
    attack.start("work")
    true, false = seeded_push("1"), seeded_push("1", branch="another")
    key = push_keys(decode_push(encoded(true), with_files=False), "").by_time
    planted = attack.forge(encoded(true), stored=zlib.compress(encoded(false)), push_key=key)
    attack.wait_settled()
    assert (attack.job(planted)["state"], attack.job(planted)["reason"]) == ("dead", "tampered")
    assert attack.runs() == []


def test_the_private_port_changes_nothing_for_anybody(attack: Attack) -> None:
    attack.start("work")
    address = f"http://127.0.0.1:{attack.planes.private_port}"
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in ("/", "/metrics", "/healthz", "/jobs", "/retry"):
            assert requests.request(method, address + path, timeout=5).status_code in (404, 405, 501)
    assert requests.get(address + "/../receiver.yaml", timeout=5).status_code == 404
