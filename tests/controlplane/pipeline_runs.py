"""PipelineRuns with their Pipeline inside, of tasks that no image has to be fetched for."""

from typing import Any

from tests.controlplane import pods
from tests.controlplane.api import Object

SECURE_STEP = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def task(name: str, **more: Any) -> Object:
    """Return a Pipeline's task of one step, with a command: Tekton would ask an image registry otherwise."""
    step = {
        "name": "only",
        "image": "example.invalid/image:1",
        "command": ["true"],
        "securityContext": SECURE_STEP,
    }
    spec = {"steps": [step], **more.pop("taskSpec", {})}
    return {"name": name, "taskSpec": spec, **more}


def pipeline_run(name: str, *tasks: Object, finally_: tuple[Object, ...] = (), **spec: Any) -> Object:
    """Return a PipelineRun with its Pipeline inside."""
    pipeline = {"tasks": list(tasks) or [task("build")], "finally": list(finally_)}
    return {
        "apiVersion": pods.TEKTON,
        "kind": "PipelineRun",
        "metadata": {"name": name},
        "spec": {"pipelineSpec": pipeline, **spec},
    }
