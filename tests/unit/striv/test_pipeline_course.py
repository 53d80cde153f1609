"""What can be said without a cluster of the course of a run: what waits for what, how often and how long."""

import pytest

from tests.support.pipeline_manifests import (
    CRON_JOBS,
    DOCUMENTS,
    PIPELINE,
    PIPELINE_TASKS,
    POD_SPECS,
    TASKS,
    TEMPLATE,
    seconds,
)

DOWNLOADING = {"checkout", "install-frontend-dependencies", "install-backend-dependencies"}


def test_what_came_from_the_cache_is_not_installed_again() -> None:
    for name, kind in (("install-frontend-dependencies", "node-modules"), ("install-backend-dependencies", "venv")):
        (when,) = PIPELINE_TASKS[name]["when"]
        # Installed as well where the cache has no answer.
        assert when == {
            "input": f"$(tasks.checkout.results.{kind}-restored)",
            "operator": "notin",
            "values": ["true"],
        }
        key = next(param["value"] for param in PIPELINE_TASKS[name]["params"] if param["name"] == "key")
        assert key == f"$(tasks.checkout.results.{kind}-key)"
    assert {name for name, task in PIPELINE_TASKS.items() if "when" in task} == {
        "install-frontend-dependencies",
        "install-backend-dependencies",
    }


def test_the_cache_is_asked_with_the_images_that_install_and_test() -> None:
    """The versions of Node and Python decide on the key."""

    def image(task: str, step: str) -> str:
        (found,) = [each["image"] for each in TASKS[task]["steps"] if each["name"] == step]
        return str(found)

    assert image("checkout", "restore") == image("install-frontend-dependencies", "npm-ci")
    assert image("checkout", "restore") == image("test-frontend", "test")
    assert image("checkout", "checkout") == image("install-backend-dependencies", "pip-install")
    assert image("checkout", "checkout") == image("test-backend", "test")


def test_what_a_run_leaves_in_its_folder_goes_when_no_run_can_use_it_any_more() -> None:
    (container,) = POD_SPECS["prune-work"]["containers"]
    (minutes,) = [int(v["value"]) for v in container["env"] if v["name"] == "OLDER_THAN_MINUTES"]
    assert minutes * 60 >= seconds(TEMPLATE["spec"]["timeouts"]["pipeline"]) + 3600
    assert {
        v["persistentVolumeClaim"]["claimName"] for v in POD_SPECS["prune-work"]["volumes"] if v["name"] == "work"
    } == {"striv-work"}


@pytest.mark.parametrize("name", TASKS)
def test_a_first_step_waits_for_nobody_since_there_is_no_sidecar(name: str) -> None:
    (metadata,) = [d["metadata"] for d in DOCUMENTS if d["kind"] == "Task" and d["metadata"]["name"] == name]
    assert "sidecars" not in TASKS[name]
    assert metadata["annotations"] == {"tekton.dev/ready": "READY"}


def test_only_downloads_are_tried_again() -> None:
    assert {name for name, task in PIPELINE_TASKS.items() if task.get("retries")} == DOWNLOADING


def test_the_tests_wait_for_what_they_need() -> None:
    needed = {"install-backend-dependencies", "write-testing-databases-conf", "deploy-test-dependencies"}
    assert set(PIPELINE_TASKS["test-backend"]["runAfter"]) == needed
    assert PIPELINE_TASKS["test-frontend"]["runAfter"] == ["install-frontend-dependencies"]
    assert [task["name"] for task in PIPELINE["finally"]] == ["delete-test-dependencies", "delete-workspace"]


def test_no_run_can_use_up_the_time_of_its_tasks_while_finally_works() -> None:
    def longest(name: str) -> int:
        task = PIPELINE_TASKS[name]
        own: int = seconds(task["timeout"]) * (1 + task.get("retries", 0))
        return own + max((longest(before) for before in task.get("runAfter", [])), default=0)

    timeouts = {part: seconds(duration) for part, duration in TEMPLATE["spec"]["timeouts"].items()}
    slowest = max(longest(task["name"]) for task in PIPELINE["tasks"])
    assert timeouts["tasks"] + timeouts["finally"] <= timeouts["pipeline"]
    for clean_up in PIPELINE["finally"]:
        assert slowest + seconds(clean_up["timeout"]) < timeouts["tasks"]
        assert seconds(clean_up["timeout"]) < timeouts["finally"]
        assert clean_up["onError"] == "continue"
        assert "runAfter" not in clean_up


@pytest.mark.parametrize("name", ["mysql", "postgres"])
def test_a_database_lives_as_long_as_a_run_may_and_not_for_ever(name: str) -> None:
    job = CRON_JOBS[name]["jobTemplate"]["spec"]
    assert CRON_JOBS[name]["suspend"] is True
    assert job["activeDeadlineSeconds"] == seconds(TEMPLATE["spec"]["timeouts"]["pipeline"])
    assert job["ttlSecondsAfterFinished"] <= 60
    assert all("emptyDir" in volume for volume in POD_SPECS[name]["volumes"])
