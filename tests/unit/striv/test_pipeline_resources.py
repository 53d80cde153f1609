"""What can be said without a cluster of the room that runs need: processors, memory, disk, quotas."""

import re
from typing import Any

from tests.support.pipeline_manifests import (
    DOCUMENTS,
    PIPELINE_TASKS,
    POD_SPECS,
    PROGRAMS_OF_THE_COMMIT,
    RECEIVER,
    TASKS,
    containers,
)


def test_no_container_may_fill_the_nodes_disk() -> None:
    limit = next(d for d in DOCUMENTS if d["kind"] == "LimitRange")["spec"]["limits"][0]
    assert "ephemeral-storage" in limit["default"]
    assert limit["defaultRequest"]["ephemeral-storage"] == "0"
    with_home = set()
    for name, task in TASKS.items():
        for step in task["steps"]:
            own = [
                v for v in task["volumes"] if v["name"] in {m["name"] for m in step["volumeMounts"]} and "emptyDir" in v
            ]
            assert all("sizeLimit" in volume["emptyDir"] for volume in own), name
            if "home" in {volume["name"] for volume in own}:
                with_home.add((name, step["name"]))
                resources = step["computeResources"]
                # More than the folder alone may take, or whoever fills it would be told of the wrong limit.
                assert resources["limits"]["ephemeral-storage"] == "5Gi"
                assert resources["requests"]["ephemeral-storage"] == "0"
    steps = {(name, step["name"]) for name, task in TASKS.items() for step in task["steps"]}
    assert with_home == {(name, step) for name, step in steps if step in PROGRAMS_OF_THE_COMMIT}


def test_five_runs_at_once_find_room_for_their_tests_on_two_cores_whatever_they_hold() -> None:
    """What a run holds all the time and what its tests need: more runs than fit would wait for each other."""

    def millicores(container: dict[str, Any]) -> int:
        resources = {**container.get("computeResources", {}), **container.get("resources", {})}
        return int(resources.get("requests", {}).get("cpu", "10m").removesuffix("m"))

    databases = sum(millicores(POD_SPECS[kind]["containers"][0]) for kind in ("mysql", "postgres"))
    most = max(sum(millicores(step) for step in TASKS[name]["steps"]) for name in ("test-backend", "test-frontend"))
    affinity_assistant = 50
    (runs,) = [trigger.max_active for trigger in RECEIVER.triggers]
    assert runs
    # The rest is what a cluster's own pods request, Tekton's among them.
    assert runs * (databases + 2 * most + affinity_assistant) <= 2000 * 0.7


def test_the_runs_that_the_receiver_starts_at_once_never_meet_a_quota() -> None:
    def mebibytes(amount: str) -> int:
        number, unit = re.fullmatch(r"(\d+)([MG]i)", amount).groups()  # type: ignore[union-attr]  # an amount that does not match fails the test
        return int(number) * (1024 if unit == "Gi" else 1)

    quota = next(document["spec"]["hard"] for document in DOCUMENTS if document["kind"] == "ResourceQuota")
    default = next(d for d in DOCUMENTS if d["kind"] == "LimitRange")["spec"]["limits"][0]["default"]["memory"]
    containers_of_a_run = [container for task in TASKS.values() for container in containers(task)]
    containers_of_a_run += [POD_SPECS[kind]["containers"][0] for kind in ("mysql", "postgres")]
    limits = [
        mebibytes({**c.get("computeResources", {}), **c.get("resources", {})}.get("limits", {}).get("memory", default))
        for c in containers_of_a_run
    ]
    (runs,) = [trigger.max_active for trigger in RECEIVER.triggers]
    assert runs
    assert runs * sum(limits) <= mebibytes(quota["limits.memory"])
    assert runs * 2 <= int(quota["count/jobs.batch"])
    # All tasks, both databases and Tekton's affinity assistant.
    assert runs * (len(PIPELINE_TASKS) + 3) <= int(quota["pods"])
    claims = [d["spec"]["resources"]["requests"]["storage"] for d in DOCUMENTS if d["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == int(quota["persistentvolumeclaims"]) == 2
    assert sum(mebibytes(claim) for claim in claims) <= mebibytes(quota["requests.storage"])
