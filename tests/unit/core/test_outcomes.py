"""What a PipelineRun says about its outcome."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.core.outcomes import Outcome, failed_task, read_outcome


def run(status: str | None, reason: str = "Because", message: str = "Words") -> dict[str, Any]:
    condition = {"type": "Succeeded", "status": status, "reason": reason, "message": message}
    return {"status": {"conditions": [{"type": "Ready", "status": "True"}, condition]}}


def taskrun(task: str, status: str, reason: str, at: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"run-{task}", "labels": {"tekton.dev/pipelineTask": task}},
        "status": {"conditions": [{"type": "Succeeded", "status": status, "reason": reason, "lastTransitionTime": at}]},
    }


@pytest.mark.parametrize(
    "unfinished", [{}, {"status": None}, {"status": {}}, {"status": {"conditions": []}}, run("Unknown")]
)
def test_a_run_that_is_not_done_has_no_outcome(unfinished: dict[str, Any]) -> None:
    assert read_outcome(unfinished) is None


@pytest.mark.parametrize("reason", ["Succeeded", "Completed", "Failed"])
def test_the_status_decides_and_no_reason(reason: str) -> None:
    assert read_outcome(run("True", reason)) == Outcome("succeeded", reason, "Words")
    assert read_outcome(run("False", reason)) == Outcome("failed", reason, "Words")


def test_a_condition_without_words_and_a_very_long_one_are_kept_within_bounds() -> None:
    bare = {"status": {"conditions": [{"type": "Succeeded", "status": "False"}]}}
    assert read_outcome(bare) == Outcome("failed", "", "")
    outcome = read_outcome(run("False", message="x" * 5_000))
    assert outcome is not None
    assert len(outcome.message) == 1_000


def test_the_failed_task_is_the_first_that_failed_and_whose_failure_counted() -> None:
    found = [
        taskrun("late", "False", "Failed", "2026-10-01T12:02:00Z"),
        taskrun("first", "False", "TaskRunTimeout", "2026-10-01T12:01:00Z"),
        taskrun("ignored", "False", "FailureIgnored", "2026-10-01T12:00:00Z"),
        taskrun("good", "True", "Succeeded", "2026-10-01T11:00:00Z"),
    ]
    assert failed_task(found) == "first (TaskRunTimeout)"
    assert failed_task(found[2:]) is None


def with_results(results: Any) -> dict[str, Any]:
    failed = taskrun("test-backend", "False", "StepFailed", "2026-10-01T12:01:00Z")
    failed["status"]["results"] = results
    return failed


def test_what_a_task_itself_says_was_wrong_follows_the_reason_within_bounds() -> None:
    gone = {"name": "problem", "type": "string", "value": "mysql is\n gone"}
    assert failed_task([with_results([{"name": "other", "value": "x"}, gone])]) == (
        "test-backend (StepFailed: mysql is gone)"
    )
    long = failed_task([with_results([{"name": "problem", "value": "x" * 5_000}])])
    assert long is not None
    assert len(long) < 350


@pytest.mark.parametrize("odd", [None, "text", {"name": "problem"}, ["text"], [{"name": "problem", "value": ["list"]}]])
def test_odd_results_say_nothing(odd: Any) -> None:
    assert failed_task([with_results(odd)]) == "test-backend (StepFailed)"


def test_a_taskrun_without_labels_goes_by_its_name() -> None:
    bare = {"metadata": {"name": "run-x"}, "status": {"conditions": [{"type": "Succeeded", "status": "False"}]}}
    assert failed_task([bare]) == "run-x (Failed)"


ODD = [
    "text",
    7,
    ["list"],
    {"conditions": "text"},
    {"conditions": {"type": "Succeeded"}},
    {"conditions": ["text", None]},
]


@pytest.mark.parametrize("status", ODD)
def test_a_status_of_an_odd_shape_is_no_outcome(status: object) -> None:
    assert read_outcome({"status": status}) is None
    assert failed_task([{"metadata": {"name": "run-x", "labels": None}, "status": status}]) is None
