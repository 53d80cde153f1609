"""What can be said of k8s/striv and the PipelineRun template without a cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
STRIV = ROOT / "k8s" / "striv"
TEMPLATE: dict[str, Any] = yaml.safe_load((ROOT / "config" / "pipelineruns" / "striv.yaml").read_text())
RECEIVER = load_settings(ROOT / "config" / "receiver.yaml", {})
PROGRAMS_OF_THE_COMMIT = ["npm-ci", "pip-install", "test"]
"""Steps that run what the commit names."""
WITH_TOKEN = {"deploy-test-dependencies", "delete-test-dependencies"}
DOWNLOADING = {"checkout", "install-frontend-dependencies", "install-backend-dependencies"}
IMAGE = re.compile(r"[a-z0-9.-]+\.[a-z]+(/[a-z0-9._-]+)+:\d+\.\d+(\.\d+)*(-[a-z]+)?")


def read_documents() -> list[dict[str, Any]]:
    """Return every object of k8s/striv."""
    others = ("kustomization.yaml", "images-in-tasks.yaml")
    found: list[dict[str, Any]] = []
    for path in sorted(STRIV.rglob("*.yaml")):
        if path.name not in others:
            found += [document for document in yaml.safe_load_all(path.read_text()) if document]
    return found


DOCUMENTS = read_documents()
TASKS = {task["metadata"]["name"]: task["spec"] for task in DOCUMENTS if task["kind"] == "Task"}
PIPELINE = next(document["spec"] for document in DOCUMENTS if document["kind"] == "Pipeline")
PIPELINE_TASKS = {task["name"]: task for task in PIPELINE["tasks"] + PIPELINE["finally"]}
CRON_JOBS = {c["metadata"]["name"]: c["spec"] for c in DOCUMENTS if c["kind"] == "CronJob"}
POD_SPECS = {name: spec["jobTemplate"]["spec"]["template"]["spec"] for name, spec in CRON_JOBS.items()}


def containers(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a Task's steps, with what they take from its stepTemplate, and its sidecars."""
    template = task.get("stepTemplate", {})
    steps: list[dict[str, Any]] = [{**template, **step} for step in task["steps"]]
    return steps + list(task.get("sidecars", []))


def seconds(duration: str) -> int:
    """Return a Go duration of whole hours, minutes and seconds."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found, duration
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + rest


@pytest.mark.parametrize("name", TASKS)
def test_values_reach_programs_through_the_environment_only(name: str) -> None:
    for container in containers(TASKS[name]):
        assert "script" not in container, "Tekton would substitute in it; files of a ConfigMap it leaves alone"
        for text in (container["image"], *container["command"]):
            assert "$(" not in text, text
        for argument in container.get("args", []):
            assert "$(params." not in argument, argument


@pytest.mark.parametrize("name", TASKS)
def test_every_container_meets_pod_security_restricted(name: str) -> None:
    for container in containers(TASKS[name]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == 65532
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", POD_SPECS)
def test_every_job_meets_pod_security_restricted_and_has_no_token(name: str) -> None:
    pod = POD_SPECS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "striv-ci"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_every_image_is_a_full_name_with_an_exact_version() -> None:
    used = [c["image"] for task in TASKS.values() for c in containers(task)]
    used += [c["image"] for pod in POD_SPECS.values() for c in pod["containers"]]
    assert len(used) > 12
    for image in used:
        assert IMAGE.fullmatch(image), image


def test_images_are_nowhere_but_in_image_fields() -> None:
    files = [path for path in STRIV.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    lines = [line.strip().removeprefix("- ") for path in files for line in path.read_text().splitlines()]
    named = [line for line in lines if "docker.io/" in line]
    assert len(named) > 12
    assert [line for line in named if not line.startswith("image: docker.io/")] == []


def test_only_the_tasks_that_handle_databases_have_a_token() -> None:
    for name, task in TASKS.items():
        sources = [s for v in task.get("volumes", []) for s in v.get("projected", {}).get("sources", [])]
        has_token = any("serviceAccountToken" in source for source in sources)
        assert has_token == (name in WITH_TOKEN), name
    assert TEMPLATE["spec"]["taskRunTemplate"]["podTemplate"]["automountServiceAccountToken"] is False
    assert {s["pipelineTaskName"] for s in TEMPLATE["spec"]["taskRunSpecs"]} == WITH_TOKEN
    accounts = [d for d in DOCUMENTS if d["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    assert {account["metadata"]["name"] for account in accounts} == {
        "default",
        "striv-ci",
        "test-dependencies-deployer",
    }


@pytest.mark.parametrize("name", sorted(WITH_TOKEN))
def test_a_task_with_a_token_touches_nothing_of_the_commit(name: str) -> None:
    assert "workspaces" not in TASKS[name]
    assert "workspaces" not in PIPELINE_TASKS[name]
    assert "runAfter" not in PIPELINE_TASKS[name]
    values = [param["value"] for param in PIPELINE_TASKS[name]["params"]]
    assert not [value for value in values if "$(tasks." in value]
    assert not any("persistentVolumeClaim" in volume for volume in TASKS[name]["volumes"])


def test_what_the_commit_executes_sees_neither_cache_nor_token() -> None:
    seen = []
    for name, task in TASKS.items():
        for step in task["steps"]:
            mounts = {mount["name"] for mount in step.get("volumeMounts", [])}
            if step["name"] in PROGRAMS_OF_THE_COMMIT:
                seen.append((name, step["name"]))
                assert not {"cache", "api", "state"} & mounts
            elif "cache" in mounts:
                assert step["command"] == ["python3", "-I", "/striv/scripts/dependency_cache.py"]
    assert len(seen) == 4


def test_a_step_writes_its_own_folder_of_the_cache_alone_and_reads_more_only_where_nothing_of_the_commit_runs() -> None:
    mounts = {
        (name, step["name"]): mount
        for name, task in TASKS.items()
        for step in task["steps"]
        for mount in step.get("volumeMounts", [])
        if mount["name"] == "cache"
    }
    whole = mounts.pop(("checkout", "restore"))
    assert whole["readOnly"] is True
    assert not {step["name"] for step in TASKS["checkout"]["steps"]} & set(PROGRAMS_OF_THE_COMMIT)
    assert {task for task, _ in mounts} == {"install-frontend-dependencies", "install-backend-dependencies"}
    assert {mount["subPath"] for mount in mounts.values()} == {"$(params.cache-scope)"}


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


def test_a_branch_comes_before_the_variables_that_its_name_could_expand_to() -> None:
    taking = []
    for name, task in TASKS.items():
        for step in task["steps"]:
            variables = [variable["name"] for variable in step.get("env", [])]
            if any("$(params.branch)" in str(variable.get("value")) for variable in step.get("env", [])):
                taking.append((name, step["name"]))
                assert variables[0] == "BRANCH"
                assert "env" not in task["stepTemplate"]
    assert taking == [("checkout", "checkout")]


def test_a_run_works_in_its_own_folder_of_the_work_claim_and_no_task_sees_more_of_it() -> None:
    (workspace,) = TEMPLATE["spec"]["workspaces"]
    assert workspace == {
        "name": "striv-workspace",
        "persistentVolumeClaim": {"claimName": "striv-work"},
        "subPath": "$(context.pipelineRun.uid)",
    }
    for name, task in TASKS.items():
        claims = [v["persistentVolumeClaim"]["claimName"] for v in task["volumes"] if "persistentVolumeClaim" in v]
        assert claims == (["striv-cache"] if name == "checkout" or name.startswith("install-") else []), name
    for name, task in PIPELINE_TASKS.items():
        for bound in task.get("workspaces", []):
            assert bound == {"name": "striv-workspace", "workspace": "striv-workspace"}, name


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


def test_the_template_fits_the_pipeline() -> None:
    declared = {param["name"]: param for param in PIPELINE["params"]}
    given = {param["name"]: param["value"] for param in TEMPLATE["spec"]["params"]}
    assert set(given) <= set(declared)
    assert {name for name, param in declared.items() if "default" not in param} <= set(given)
    assert TEMPLATE["spec"]["pipelineRef"] == {"name": "deploy-striv"}
    assert [w["name"] for w in TEMPLATE["spec"]["workspaces"]] == [w["name"] for w in PIPELINE["workspaces"]]
    assert given["repo-url"] == "https://github.com/bittrance/striv"


@pytest.mark.parametrize("name", PIPELINE_TASKS)
def test_each_task_of_the_pipeline_gets_what_it_declares(name: str) -> None:
    pipeline_task = PIPELINE_TASKS[name]
    task = TASKS[pipeline_task["taskRef"]["name"]]
    given = {param["name"] for param in pipeline_task.get("params", [])}
    assert given == {param["name"] for param in task.get("params", [])}
    bound = {workspace["name"] for workspace in pipeline_task.get("workspaces", [])}
    assert bound == {workspace["name"] for workspace in task.get("workspaces", [])}


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


def test_kustomize_takes_every_file() -> None:
    kustomization = yaml.safe_load((STRIV / "kustomization.yaml").read_text())
    listed = set(kustomization["resources"]) | set(kustomization["configurations"]) | {"kustomization.yaml"}
    listed |= {file for generator in kustomization["configMapGenerator"] for file in generator["files"]}
    present = {
        str(path.relative_to(STRIV)) for path in STRIV.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert present - {"pin-digests.sh"} == listed


def test_mounted_scripts_exist() -> None:
    used = {
        argument.removeprefix("/striv/scripts/")
        for task in TASKS.values()
        for step in task["steps"]
        for argument in step.get("command", [])
        if argument.startswith("/striv/scripts/")
    }
    for job in ("prune-cache", "prune-work"):
        used |= {Path(c).name for c in POD_SPECS[job]["containers"][0]["command"] if c.startswith("/striv/scripts/")}
    assert used == {path.name for path in (STRIV / "scripts").iterdir() if path.suffix in (".py", ".sh")}


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
