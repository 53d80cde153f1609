"""The objects of k8s/striv and the PipelineRun template, as tests read them."""

import re
from pathlib import Path
from typing import Any

import yaml

from receiver.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
STRIV = ROOT / "k8s" / "striv"
TEMPLATE: dict[str, Any] = yaml.safe_load((ROOT / "config" / "pipelineruns" / "striv.yaml").read_text())
RECEIVER = load_settings(ROOT / "config" / "receiver.yaml", {})
PROGRAMS_OF_THE_COMMIT = ["npm-ci", "pip-install", "test"]
"""Steps that run what the commit names."""


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
