"""The parts of k8s/striv fit together: template, Pipeline, Tasks, files."""

from pathlib import Path

import pytest
import yaml

from tests.support.pipeline_manifests import PIPELINE, PIPELINE_TASKS, POD_SPECS, STRIV, TASKS, TEMPLATE


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
