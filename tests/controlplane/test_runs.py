"""The control plane is a real one: what it makes of a PipelineRun, and what is left of a deleted one."""

import pytest

from tests.controlplane import fixtures, pods
from tests.controlplane.api import ApiError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.pipeline_runs import pipeline_run, task
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane


RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def test_a_run_gets_a_taskrun_and_a_pod_for_each_task_that_can_start(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    api.create(
        pipeline_run("fan", task("one"), task("two"), task("after", runAfter=["one"])),
        namespace=run_namespace,
    )

    wait_until(lambda: len(pods.run_pods(api, run_namespace, "fan")) == 2, what="two pods")

    found = pods.run_pods(api, run_namespace, "fan")
    assert {pod["metadata"]["labels"][pods.TASK_LABEL] for pod in found} == {"one", "two"}
    assert {pod["status"]["phase"] for pod in found} == {"Pending"}
    assert set(pods.task_runs(api, run_namespace, "fan")) == {"one", "two"}


def test_a_run_whose_tasks_all_succeed_ends_succeeded_and_hands_results_on(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    produce = task("produce", taskSpec={"results": [{"name": "commit"}]})
    consume = task(
        "consume",
        taskSpec={"params": [{"name": "commit"}]},
        params=[{"name": "commit", "value": "$(tasks.produce.results.commit)"}],
    )
    api.create(pipeline_run("good", produce, consume, finally_=(task("cleanup"),)), namespace=run_namespace)

    run = pods.finish_run(api, run_namespace, "good", results={"produce": {"commit": "c0ffee"}})

    found = pods.task_runs(api, run_namespace, "good")
    assert (pods.succeeded(run)["status"], pods.succeeded(run)["reason"]) == ("True", "Succeeded")
    assert set(found) == {"produce", "consume", "cleanup"}
    assert found["consume"]["spec"]["params"] == [{"name": "commit", "value": "c0ffee"}]


def test_a_run_with_a_failing_task_ends_failed_and_still_runs_its_finally_tasks(
    control_plane: ControlPlane, run_namespace: str
) -> None:
    api = control_plane.api
    tasks = [task("prepare"), task("test", runAfter=["prepare"]), task("never", runAfter=["test"])]
    api.create(pipeline_run("bad", *tasks, finally_=(task("cleanup"),)), namespace=run_namespace)

    run = pods.finish_run(api, run_namespace, "bad", failing_task="test")

    outcomes = {
        name: pods.succeeded(each)["status"] for name, each in pods.task_runs(api, run_namespace, "bad").items()
    }
    assert (pods.succeeded(run)["status"], pods.succeeded(run)["reason"]) == ("False", "Failed")
    assert outcomes == {"prepare": "True", "test": "False", "cleanup": "True"}


def test_a_run_whose_pods_run_is_running(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    api.create(pipeline_run("at-work"), namespace=run_namespace)

    pods.start_run(api, run_namespace, "at-work")

    reason = wait_until(
        lambda: pods.succeeded(pods.task_runs(api, run_namespace, "at-work")["build"]).get("reason") == "Running",
        what="the TaskRun to run",
    )
    assert reason


def test_pods_of_runs_are_admitted_where_pod_security_is_restricted(control_plane: ControlPlane) -> None:
    api, namespace = control_plane.api, "restricted"
    fixtures.make_namespace(api, namespace, labels=RESTRICTED)
    api.create(pipeline_run("secure"), namespace=namespace)

    run = pods.finish_run(api, namespace, "secure")

    assert pods.succeeded(run)["status"] == "True"
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "privileged"},
                "spec": {
                    "containers": [
                        {"name": "x", "image": "x:1", "securityContext": {"privileged": True}},
                    ]
                },
            },
            namespace=namespace,
        )


def test_the_dependents_of_a_deleted_run_are_collected(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    api.create(pipeline_run("short-lived"), namespace=run_namespace)
    (pod,) = wait_until(lambda: pods.run_pods(api, run_namespace, "short-lived"), what="the pod")
    (task_run,) = pods.task_runs(api, run_namespace, "short-lived").values()

    api.delete(pods.TEKTON, "PipelineRun", "short-lived", namespace=run_namespace)

    api.wait_gone(pods.TEKTON, "TaskRun", task_run["metadata"]["name"], namespace=run_namespace)
    api.wait_gone("v1", "Pod", pod["metadata"]["name"], namespace=run_namespace)


def test_the_volume_claim_of_a_deleted_run_is_collected(control_plane: ControlPlane, run_namespace: str) -> None:
    api = control_plane.api
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    build = task("build", workspaces=[{"name": "source"}], taskSpec={"workspaces": [{"name": "source"}]})
    run = pipeline_run("with-volume", build, workspaces=[{"name": "source", "volumeClaimTemplate": {"spec": claim}}])
    run["spec"]["pipelineSpec"]["workspaces"] = [{"name": "source"}]
    api.create(run, namespace=run_namespace)
    wait_until(lambda: pods.run_pods(api, run_namespace, "with-volume"), what="the pod")
    (volume_claim,) = api.list("v1", "PersistentVolumeClaim", namespace=run_namespace)

    api.delete(pods.TEKTON, "PipelineRun", "with-volume", namespace=run_namespace)

    api.wait_gone("v1", "PersistentVolumeClaim", volume_claim["metadata"]["name"], namespace=run_namespace)
