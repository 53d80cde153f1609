"""Plays the kubelet: there is no node, so a test says how the steps of a Tekton pod ended.

Tekton reads nothing of a pod but its status, so this is all that a kubelet would have told it. Shapes: Tekton
v1.15 pkg/pod/status.go (what makes a TaskRun complete) and pkg/result/result.go (the termination message).
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.controlplane.api import Api, Object
from tests.support.waiting import NotReadyError, wait_until

TEKTON = "tekton.dev/v1"
TASK_LABEL = "tekton.dev/pipelineTask"
STARTED_AT, FINISHED_AT = "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"
_TASK_RESULT, _INTERNAL = 1, 3
_ENDED = ("Succeeded", "Failed")


def finish_run(
    api: Api,
    namespace: str,
    run_name: str,
    failing_task: str | None = None,
    *,
    results: Mapping[str, Mapping[str, str]] | None = None,
    seconds: float = 60,
) -> Object:
    """Drive a PipelineRun to its end and return it: every task succeeds but `failing_task`.

    Tasks go by their names in the Pipeline. `results` gives what they write: {task: {result: value}}; a run
    whose tasks use results that nobody wrote fails. Raises NotReadyError with the run's condition when it
    does not end within `seconds`.
    """

    def ended() -> Object | None:
        for pod in run_pods(api, namespace, run_name):
            task = pod["metadata"]["labels"][TASK_LABEL]
            if pod["status"]["phase"] not in _ENDED:
                finish_pod(api, pod, failed=task == failing_task, results=(results or {}).get(task))
        run = api.get(TEKTON, "PipelineRun", run_name, namespace=namespace)
        return run if succeeded(run).get("status") in ("True", "False") else None

    try:
        return wait_until(ended, what=f"PipelineRun {run_name} to end", seconds=seconds, every=0.05)
    except NotReadyError as error:
        run = api.get(TEKTON, "PipelineRun", run_name, namespace=namespace)
        raise NotReadyError(f"{error}: {succeeded(run)}") from error


def start_run(api: Api, namespace: str, run_name: str, *, seconds: float = 60) -> list[Object]:
    """Let the first pods of a PipelineRun begin to run, so that the run is at work, and return them."""
    pods = wait_until(
        lambda: run_pods(api, namespace, run_name), what=f"pods of PipelineRun {run_name}", seconds=seconds
    )
    for pod in pods:
        start_pod(api, pod)
    return pods


def start_pod(api: Api, pod: Object) -> None:
    """Report that all steps and sidecars of a pod run."""
    running = {"state": {"running": {"startedAt": STARTED_AT}}, "ready": True, "started": True}
    _report(api, pod, phase="Running", states=dict.fromkeys(_containers(pod), running))


def finish_pod(api: Api, pod: Object, *, failed: bool = False, results: Mapping[str, str] | None = None) -> None:
    """Report that all steps of a pod ended: the last one with exit code 1 when it failed, else with 0.

    `results` are the task's results, written by the last step.
    """
    steps = [name for name in _containers(pod) if name.startswith("step-")]
    states: dict[str, Object] = {}
    for name in _containers(pod):
        last = bool(steps) and name == steps[-1]
        message = [{"key": "StartedAt", "value": STARTED_AT, "type": _INTERNAL}]
        if last:
            message += [{"key": key, "value": value, "type": _TASK_RESULT} for key, value in (results or {}).items()]
        states[name] = {
            "ready": False,
            "started": False,
            "state": {
                "terminated": {
                    "exitCode": 1 if failed and last else 0,
                    "reason": "Error" if failed and last else "Completed",
                    "startedAt": STARTED_AT,
                    "finishedAt": FINISHED_AT,
                    "message": json.dumps(message),
                }
            },
        }
    _report(api, pod, phase="Failed" if failed else "Succeeded", states=states)


def run_pods(api: Api, namespace: str, run_name: str) -> list[Object]:
    """Return the pods of a PipelineRun's tasks (no affinity assistant)."""
    return api.list("v1", "Pod", namespace=namespace, labels=f"tekton.dev/pipelineRun={run_name},tekton.dev/taskRun")


def task_runs(api: Api, namespace: str, run_name: str) -> dict[str, Object]:
    """Return the TaskRuns of a PipelineRun by the names that their tasks have in the Pipeline."""
    found = api.list(TEKTON, "TaskRun", namespace=namespace, labels=f"tekton.dev/pipelineRun={run_name}")
    return {each["metadata"]["labels"][TASK_LABEL]: each for each in found}


def succeeded(run: Object) -> Object:
    """Return the Succeeded condition of a PipelineRun or TaskRun; empty before Tekton saw it."""
    conditions: list[Object] = run.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == "Succeeded"), {})


def _containers(pod: Object) -> list[str]:
    return [each["name"] for each in pod["spec"]["containers"]]


def _report(api: Api, pod: Object, *, phase: str, states: Mapping[str, Object]) -> None:
    statuses: list[Any] = [
        {
            "name": each["name"],
            "image": each["image"],
            "imageID": "",
            "restartCount": 0,
            **states[each["name"]],
        }
        for each in pod["spec"]["containers"]
    ]
    metadata = pod["metadata"]
    patch = {"status": {"phase": phase, "startTime": STARTED_AT, "containerStatuses": statuses}}
    api.patch("v1", "Pod", metadata["name"], patch, namespace=metadata["namespace"], subresource="status")
