"""PipelineRuns of the Striv pipeline: starting, waiting, and reading what their tests reported."""

import copy
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.support.cluster import CHECKOUT, ApiError, Cluster, Object, eventually, walk_owners
from tests.e2e.support.repository import URL
from tests.e2e.support.work import NAMESPACE, folder_of

TEMPLATE = CHECKOUT / "config" / "pipelineruns" / "striv.yaml"
RUN_LABEL = "striv-receiver.dev/pipeline-run-uid"
CLEAN_SECONDS = 30
"""How long after a run's end (or its deletion) nothing of it may be left but its finished pods with their logs."""

TEKTON = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
BATCH = f"/apis/batch/v1/namespaces/{NAMESPACE}"
RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
NETWORKING = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}"


def load_template(path: Path = TEMPLATE) -> Object:
    """Read the PipelineRun that is deployed with the receiver."""
    template: Object = yaml.safe_load(path.read_text())
    return template


def manifest(
    *,
    revision: str,
    branch: str = "",
    repository_id: str = "",
    repo_url: str = URL,
    params: dict[str, str] | None = None,
    timeouts: dict[str, str] | None = None,
) -> Object:
    """Fill the template as the receiver does, and no more."""
    run = load_template()
    values = {"repo-url": repo_url, "revision": revision, "branch": branch, "repository-id": repository_id}
    values |= params or {}
    run["spec"]["params"] = [{"name": name, "value": value} for name, value in values.items()]
    if timeouts:
        run["spec"]["timeouts"] = timeouts
    return run


class Run:
    """One PipelineRun."""

    def __init__(self, cluster: Cluster, created: Object) -> None:
        self.cluster = cluster
        self.name: str = created["metadata"]["name"]
        self.uid: str = created["metadata"]["uid"]
        self.path = f"{TEKTON}/pipelineruns/{self.name}"

    def get(self) -> Object:
        """Return the PipelineRun as it is now."""
        return self.cluster.call("GET", self.path)

    def condition(self) -> Object:
        """Return its Succeeded condition; empty before Tekton has seen the run."""
        conditions: list[Object] = self.get().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Succeeded"), {})

    def finish(self, seconds: float = 300) -> Object:
        """Wait for the outcome and return the Succeeded condition."""

        def done() -> Object | None:
            condition = self.condition()
            return condition if condition.get("status") in ("True", "False") else None

        return eventually(done, what=f"{self.name} is done", seconds=seconds, every=0.5)

    def expect(self, status: str, seconds: float = 300) -> Object:
        """Wait for the outcome, which must be this; otherwise fail with the tasks' conditions and last lines."""
        condition = self.finish(seconds)
        assert condition["status"] == status, self.describe()
        return condition

    def describe(self) -> str:
        """Tell what became of each task, with the last lines of those that failed."""
        lines = [f"{self.name}: {self.condition()}"]
        for task, taskrun in self.taskruns().items():
            condition = self.task_condition(task)
            lines.append(f"{task}: {condition.get('status')} {condition.get('reason')} {condition.get('message')}")
            if condition.get("status") != "False":
                continue
            for step in taskrun["status"].get("steps", []):
                try:
                    lines += [f"  {step['name']}| {line}" for line in self.log(task, step["name"]).splitlines()[-25:]]
                except ApiError as error:
                    lines.append(f"  {step['name']}: {error}")
        return "\n".join(lines)

    def taskruns(self) -> dict[str, Object]:
        """Return the run's TaskRuns by the names of their tasks."""
        found = self.cluster.items(f"{TEKTON}/taskruns", selector=f"tekton.dev/pipelineRunUID={self.uid}")
        return {taskrun["metadata"]["labels"]["tekton.dev/pipelineTask"]: taskrun for taskrun in found}

    def task_condition(self, task: str) -> Object:
        """Return the Succeeded condition of a task; empty when it has not begun."""
        taskrun = self.taskruns().get(task, {})
        conditions: list[Object] = taskrun.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Succeeded"), {})

    def result(self, task: str, name: str) -> str | None:
        """Return a result of a task."""
        results = self.taskruns()[task].get("status", {}).get("results", [])
        return next((str(result["value"]) for result in results if result["name"] == name), None)

    def wait_for_task(self, task: str, seconds: float = 120) -> None:
        """Wait until a task is at work: the first of its steps that has not ended runs.

        The containers of the later ones run as well, from the start of the pod, and wait.
        """

        def works() -> bool:
            steps = self.taskruns().get(task, {}).get("status", {}).get("steps", [])
            return "running" in next((step for step in steps if "terminated" not in step), {})

        eventually(works, what=f"{task} of {self.name} works", seconds=seconds)

    def failed_tasks(self) -> dict[str, str]:
        """Return the tasks that failed, with Tekton's reason."""
        conditions = {task: self.task_condition(task) for task in self.taskruns()}
        return {task: c["reason"] for task, c in conditions.items() if c.get("status") == "False"}

    def log(self, task: str, step: str) -> str:
        """Return what a step has printed."""
        pod = self.taskruns()[task]["status"]["podName"]
        return self.cluster.send("GET", f"{CORE}/pods/{pod}/log", query={"container": f"step-{step}"})

    def backend_report(self) -> dict[str, dict[str, Any]]:
        """Return the tests' own report: for each driver, how many passed and failed against which server."""
        log = self.log("test-backend", "test")
        found = re.search(r"^STRIV-REPORT (.*)$", log, re.MULTILINE)
        assert found, log
        report: dict[str, dict[str, Any]] = json.loads(found[1])
        return report

    def frontend_passed(self) -> int:
        """Return how many tests of the front end passed, by their own report."""
        log = self.log("test-frontend", "test")
        found = re.search(r"^\s*(\d+) passing", log, re.MULTILINE)
        assert found, log
        return int(found[1])

    def duration_seconds(self) -> float:
        """Return how long a finished run took, from its creation to its completion."""
        run = self.get()
        created = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
        return (datetime.fromisoformat(run["status"]["completionTime"]) - created).total_seconds()

    def leftovers(self) -> list[str]:
        """Name what the run has left in the namespace: everything but pods that have ended and keep their logs.

        What it has left in its folder of the work claim is said by work_left.
        """
        selector = f"{RUN_LABEL}={self.uid}"
        left = []
        for path in (
            f"{BATCH}/jobs",
            f"{CORE}/pods",
            f"{CORE}/services",
            f"{CORE}/secrets",
            f"{NETWORKING}/networkpolicies",
        ):
            left += [
                f"{path.rsplit('/')[-1]}/{o['metadata']['name']}" for o in self.cluster.items(path, selector=selector)
            ]
        claims = walk_owners(self.cluster.items(f"{CORE}/persistentvolumeclaims"), self.uid)
        left += [f"persistentvolumeclaims/{claim['metadata']['name']}" for claim in claims]
        # Tekton's affinity assistant has the run's name and not its uid.
        by_name = f"tekton.dev/pipelineRun={self.name}"
        assistants = self.cluster.items(f"{APPS}/statefulsets", selector=by_name)
        left += [f"statefulsets/{assistant['metadata']['name']}" for assistant in assistants]
        pods = self.cluster.items(f"{CORE}/pods", selector=by_name)
        left += [f"pods/{p['metadata']['name']}" for p in pods if p["status"].get("phase") in ("Pending", "Running")]
        return left

    def work_left(self) -> list[str]:
        """Name what is in the run's folder of the work claim, which itself may stay."""
        return [f"striv-work/{self.uid}/{name}" for name in folder_of(self.uid) or []]

    def expect_clean(self, seconds: float = CLEAN_SECONDS, *, finally_ran: bool = True) -> None:
        """Wait until nothing of the run is left; fail after so many seconds with what is.

        Its folder of the work claim is emptied by `finally` and otherwise only by the hourly clean-up.
        """
        last: list[str] = []

        def clean() -> bool:
            last[:] = self.leftovers() + (self.work_left() if finally_ran else [])
            return not last

        try:
            eventually(clean, what="nothing is left", seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{self.name} left {last} {seconds:g} s after its end") from error

    def cancel(self, how: str) -> None:
        """Set spec.status: CancelledRunFinally, Cancelled or StoppedRunFinally."""
        self.cluster.merge(self.path, {"spec": {"status": how}})

    def delete(self) -> None:
        """Delete the PipelineRun and, in the background, what it owns."""
        self.cluster.delete(self.path)


class Runs:
    """Starts runs and deletes them when the test is over."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.started: list[Run] = []

    def start(self, *, identity: Cluster | None = None, **given: Any) -> Run:
        """Create a PipelineRun from the template, by default as the administrator."""
        return self.create(manifest(**given), identity=identity)

    def create(self, body: Object, *, identity: Cluster | None = None) -> Run:
        """Create a PipelineRun as it is given."""
        query = {"fieldValidation": "Strict"}
        created = (identity or self.cluster).call("POST", f"{TEKTON}/pipelineruns", copy.deepcopy(body), query=query)
        return self._keep(created)

    def adopt(self, name: str) -> Run:
        """Take a PipelineRun that somebody else has created for one of ours."""
        return self._keep(self.cluster.call("GET", f"{TEKTON}/pipelineruns/{name}"))

    def _keep(self, created: Object) -> Run:
        run = Run(self.cluster, created)
        self.started.append(run)
        return run

    def delete_all(self) -> None:
        """Delete every run that was started."""
        for run in self.started:
            run.delete()
        self.started.clear()
