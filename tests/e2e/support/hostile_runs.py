"""PipelineRuns that nobody but an attacker would make of the receiver's: each differs from a genuine one in one thing."""

from typing import Any

from tests.e2e.support.admission import OTHER_UID, UID, databases
from tests.e2e.support.cluster import Object
from tests.e2e.support.refusals import SECRET_REF, TOKEN, Change


def spec_of(body: Any, task: str) -> Any:
    """Return the taskRunSpecs entry of a task, made if needed."""
    specs = body["spec"]["taskRunSpecs"]
    found = [spec for spec in specs if spec["pipelineTaskName"] == task]
    if not found:
        found = [{"pipelineTaskName": task}]
        specs.extend(found)
    return found[0]


def pod_template(body: Any) -> Any:
    """Return the podTemplate of all tasks."""
    return body["spec"]["taskRunTemplate"]["podTemplate"]


def workspace(body: Any, **source: Any) -> None:
    """Give the workspace another source."""
    body["spec"]["workspaces"] = [{"name": "striv-workspace", **source}]


INLINE = {"tasks": [{"name": "t", "taskSpec": {"steps": [{"name": "s", "image": "x:1", "command": ["true"]}]}}]}
STOLEN = {"name": "stolen", "secret": {"secretName": "other"}}
WORK, OWN_FOLDER = {"claimName": "striv-work"}, "$(context.pipelineRun.uid)"
CLAIM: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
HOSTILE_RUNS: dict[str, Change] = {
    "tasks of its own": lambda r: (r["spec"].pop("pipelineRef"), r["spec"].update(pipelineSpec=INLINE)),
    "another Pipeline": lambda r: r["spec"].update(pipelineRef={"name": "other"}),
    "a Pipeline from elsewhere": lambda r: r["spec"].update(
        pipelineRef={"resolver": "git", "params": [{"name": "url", "value": "https://example.com"}]}
    ),
    "the deployer for all tasks": lambda r: r["spec"]["taskRunTemplate"].update(
        serviceAccountName="test-dependencies-deployer"
    ),
    "the deployer for tests": lambda r: spec_of(r, "test-backend").update(
        serviceAccountName="test-dependencies-deployer"
    ),
    "another ServiceAccount": lambda r: spec_of(r, "deploy-test-dependencies").update(serviceAccountName="default"),
    "no ServiceAccount": lambda r: r["spec"]["taskRunTemplate"].pop("serviceAccountName"),
    "an automatic token": lambda r: pod_template(r).update(automountServiceAccountToken=True),
    "a token for tests": lambda r: spec_of(r, "test-backend").update(
        podTemplate={"automountServiceAccountToken": True}
    ),
    "volumes": lambda r: pod_template(r).update(volumes=[STOLEN]),
    "volumes for a task": lambda r: spec_of(r, "test-backend").update(podTemplate={"volumes": [STOLEN]}),
    "environment": lambda r: pod_template(r).update(env=[{"name": "PIP_INDEX_URL", "value": "https://example.com"}]),
    "environment from a Secret": lambda r: pod_template(r).update(env=[SECRET_REF]),
    "the host's network": lambda r: pod_template(r).update(hostNetwork=True),
    "names for addresses": lambda r: pod_template(r).update(
        hostAliases=[{"ip": "192.0.2.1", "hostnames": ["github.com"]}]
    ),
    "pull secrets": lambda r: pod_template(r).update(imagePullSecrets=[{"name": "other"}]),
    "other steps": lambda r: spec_of(r, "test-backend").update(
        stepSpecs=[{"name": "test", "computeResources": {"limits": {"memory": "4Gi"}}}]
    ),
    "no workspace": lambda r: r["spec"].pop("workspaces"),
    "the cache as workspace": lambda r: workspace(
        r, persistentVolumeClaim={"claimName": "striv-cache"}, subPath=OWN_FOLDER
    ),
    "the folders of all runs": lambda r: workspace(r, persistentVolumeClaim=WORK),
    "the folders of all runs by an empty path": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=""),
    "the folders of all runs by a path": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath="."),
    "the folder of another run": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=OTHER_UID),
    "a folder that a param names": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath="$(params.branch)"),
    "a folder below its own": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=f"{OWN_FOLDER}/source"),
    "a folder above its own": lambda r: workspace(r, persistentVolumeClaim=WORK, subPath=f"{OWN_FOLDER}/.."),
    "another claim": lambda r: workspace(r, persistentVolumeClaim={"claimName": "other"}, subPath=OWN_FOLDER),
    "a read-only workspace": lambda r: workspace(
        r, persistentVolumeClaim={**WORK, "readOnly": True}, subPath=OWN_FOLDER
    ),
    "a Secret beside the claim": lambda r: workspace(
        r, persistentVolumeClaim=WORK, subPath=OWN_FOLDER, secret={"secretName": "other"}
    ),
    "its own folder under another name": lambda r: r["spec"].update(
        workspaces=[{"name": "other", "persistentVolumeClaim": WORK, "subPath": OWN_FOLDER}]
    ),
    "an empty folder as workspace": lambda r: workspace(r, emptyDir={}),
    "a claim of its own": lambda r: workspace(r, volumeClaimTemplate={"spec": CLAIM}),
    "a Secret as workspace": lambda r: workspace(r, secret={"secretName": "other"}),
    "a ConfigMap as workspace": lambda r: workspace(r, configMap={"name": "other"}),
    "a projected token as workspace": lambda r: workspace(r, projected=TOKEN["projected"]),
    "a copy of the cache": lambda r: workspace(
        r,
        volumeClaimTemplate={"spec": {**CLAIM, "dataSource": {"kind": "PersistentVolumeClaim", "name": "striv-cache"}}},
    ),
    "a volume of its choice": lambda r: workspace(r, volumeClaimTemplate={"spec": {**CLAIM, "volumeName": "pv-1"}}),
    "two workspaces": lambda r: r["spec"]["workspaces"].append({"name": "other", "emptyDir": {}}),
    "another manager": lambda r: r["spec"].update(managedBy="example.com/other"),
    "a priority": lambda r: pod_template(r).update(priorityClassName="system-cluster-critical"),
    "a finalizer": lambda r: r["metadata"].update(finalizers=["example.com/stay"]),
    "the label of a database": lambda r: r["metadata"]["labels"].update({databases.RUN_LABEL: UID}),
}
