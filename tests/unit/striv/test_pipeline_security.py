"""What can be said without a cluster of what containers of a run may do and see."""

import re

import pytest

from tests.support.pipeline_manifests import (
    DOCUMENTS,
    PIPELINE_TASKS,
    POD_SPECS,
    PROGRAMS_OF_THE_COMMIT,
    STRIV,
    TASKS,
    TEMPLATE,
    containers,
)

WITH_TOKEN = {"deploy-test-dependencies", "delete-test-dependencies"}
IMAGE = re.compile(r"[a-z0-9.-]+\.[a-z]+(/[a-z0-9._-]+)+:\d+\.\d+(\.\d+)*(-[a-z]+)?")


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
