"""What a PipelineRun and its TaskRuns say about the outcome.

Only `status` of the condition `Succeeded` decides (tektoncd/pipeline docs/pipelineruns.md); reasons are for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SUCCEEDED, FAILED, DELETED = "succeeded", "failed", "deleted"
_LONGEST_MESSAGE = 1_000
_LONGEST_PROBLEM = 300
_PROBLEM = "problem"
"""A task's result that says what was wrong besides the tests (k8s/striv/tasks): which database did not answer, for instance."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `result` is succeeded, failed or deleted; `reason` and `message` are Tekton's words."""

    result: str
    reason: str
    message: str
    failed_task: str | None = None


def read_outcome(run: dict[str, Any]) -> Outcome | None:
    """Return the outcome of a PipelineRun, None while it is not done (condition absent or Unknown)."""
    condition = _succeeded(run)
    status = condition.get("status")
    if status not in ("True", "False"):
        return None
    return Outcome(
        result=SUCCEEDED if status == "True" else FAILED,
        reason=str(condition.get("reason") or ""),
        message=str(condition.get("message") or "")[:_LONGEST_MESSAGE],
    )


def failed_task(taskruns: Iterable[dict[str, Any]]) -> str | None:
    """Return `task (reason)` of the first TaskRun that failed and whose failure counted; None when none did.

    What its result `problem` says follows the reason. Pushed code can have written that: it is shown, and decides nothing.
    """
    failures = []
    for taskrun in taskruns:
        condition = _succeeded(taskrun)
        if condition.get("status") == "False" and condition.get("reason") != "FailureIgnored":
            labels = taskrun.get("metadata", {}).get("labels") or {}
            name = labels.get("tekton.dev/pipelineTask") or taskrun.get("metadata", {}).get("name", "?")
            reason = ": ".join(filter(None, (condition.get("reason") or "Failed", _problem(taskrun))))
            failures.append((str(condition.get("lastTransitionTime", "")), f"{name} ({reason})"))
    return min(failures)[1] if failures else None


def _problem(taskrun: dict[str, Any]) -> str:
    results = taskrun["status"].get("results")
    values = (
        each.get("value")
        for each in (results if isinstance(results, list) else ())
        if isinstance(each, dict) and each.get("name") == _PROBLEM
    )
    return next((" ".join(value.split())[:_LONGEST_PROBLEM] for value in values if isinstance(value, str)), "")


def _succeeded(run: dict[str, Any]) -> dict[str, Any]:
    # Tekton's CRDs let every shape of a status through; an odd one must not keep the other runs from being followed.
    status = run.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    found = (each for each in conditions if isinstance(each, dict)) if isinstance(conditions, list) else ()
    return next((condition for condition in found if condition.get("type") == "Succeeded"), {})
