"""Proving a configuration against the real cluster, before the first push does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from receiver.clients.cluster import Cluster
from receiver.core.events import Push
from receiver.core.filters import ChangedFiles
from receiver.core.params import OWN_NAMES, Value
from receiver.core.pipelinerun import RunIdentity, build_manifest
from receiver.core.triggers import Trigger
from receiver.errors import NotFoundError, ReceiverError

_RIGHTS = (
    ("create", "pipelineruns"),
    ("get", "pipelineruns"),
    ("list", "pipelineruns"),
    ("watch", "pipelineruns"),
    ("list", "taskruns"),
)
_SAMPLE_SHA = "0123456789abcdef0123456789abcdef01234567"
_SAMPLE_KEY = bytes(32)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was proved, or was not."""

    good: bool
    text: str


def prove(triggers: tuple[Trigger, ...], cluster: Cluster) -> Iterator[Finding]:
    """Yield findings on rights, Pipelines and templates, trigger by trigger; never raises for what the cluster says."""
    for namespace in sorted({trigger.namespace for trigger in triggers}):
        yield from _guarded(_rights, namespace, cluster)
    for trigger in triggers:
        yield from _guarded(_pipeline, trigger, cluster)
        yield from _guarded(_dry_run, trigger, cluster)


def _guarded(proof: Any, subject: Any, cluster: Cluster) -> Iterator[Finding]:
    try:
        yield from proof(subject, cluster)
    except ReceiverError as error:
        name = subject.name if isinstance(subject, Trigger) else subject
        yield Finding(False, f"{name}: {error}")


def _rights(namespace: str, cluster: Cluster) -> Iterator[Finding]:
    for verb, resource in _RIGHTS:
        allowed = cluster.may(namespace, verb, resource)
        may = "may" if allowed else "may NOT"
        hint = "" if allowed else "; grant it in the worker's Role"
        yield Finding(allowed, f"namespace {namespace}: {may} {verb} {resource}{hint}")


def _pipeline(trigger: Trigger, cluster: Cluster) -> Iterator[Finding]:
    reference = trigger.template["spec"].get("pipelineRef") or {}
    name = reference.get("name")
    if not name:
        yield Finding(
            True, f"trigger {trigger.name}: the template refers to no Pipeline by name, so there is none to compare"
        )
        return
    try:
        pipeline = cluster.get_pipeline(trigger.namespace, name)["spec"]
    except NotFoundError:
        yield Finding(
            False,
            f"trigger {trigger.name}: there is no Pipeline {name} in namespace {trigger.namespace}; apply it first",
        )
        return
    problems = [*_params(trigger, pipeline), *_workspaces(trigger, pipeline), *_tasks(trigger, pipeline)]
    for problem in problems:
        yield Finding(False, f"trigger {trigger.name}: {problem}")
    if not problems:
        yield Finding(True, f"trigger {trigger.name}: params, workspaces and tasks fit the Pipeline {name}")


def _params(trigger: Trigger, pipeline: dict[str, Any]) -> Iterator[str]:
    given = {param["name"]: param.get("value") for param in trigger.template["spec"].get("params") or []}
    declared = {param["name"]: param for param in pipeline.get("params") or []}
    for name, param in declared.items():
        if name not in given and "default" not in param:
            yield f"the Pipeline needs the parameter `{name}`, which the template does not give"
    for name, value in given.items():
        if name not in declared:
            yield f"the template gives the parameter `{name}`, which the Pipeline does not have"
        elif _kind(value) != declared[name].get("type", "string"):
            declared_type = declared[name].get("type", "string")
            yield f"the parameter `{name}` is of type {declared_type} in the Pipeline, of type {_kind(value)} in the template"
    for rule in (rule for rule in trigger.reader.rules if rule.name in declared):
        # What is found under a path is known only when a payload comes.
        kind = declared[rule.name].get("type", "string")
        wanted = f"the parameter `{rule.name}` is of type {kind} in the Pipeline"
        if rule.source in OWN_NAMES and kind != "string":
            yield f"{wanted}, and `{rule.source}` is always a string"
        if rule.default is not None and _kind(rule.default) != kind:
            yield f"{wanted}, its default of type {_kind(rule.default)}"


def _kind(value: Any) -> str:
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "string"


def _workspaces(trigger: Trigger, pipeline: dict[str, Any]) -> Iterator[str]:
    given = {workspace["name"] for workspace in trigger.template["spec"].get("workspaces") or []}
    for workspace in pipeline.get("workspaces") or []:
        if workspace["name"] not in given and not workspace.get("optional"):
            yield f"the Pipeline needs the workspace `{workspace['name']}`, which the template does not bind"


def _tasks(trigger: Trigger, pipeline: dict[str, Any]) -> Iterator[str]:
    tasks = {task["name"] for kind in ("tasks", "finally") for task in pipeline.get(kind) or []}
    for run_spec in trigger.template["spec"].get("taskRunSpecs") or []:
        if run_spec.get("pipelineTaskName") not in tasks:
            yield f"taskRunSpecs names the task `{run_spec.get('pipelineTaskName')}`, which the Pipeline does not have"


def _dry_run(trigger: Trigger, cluster: Cluster) -> Iterator[Finding]:
    given = {param["name"]: param.get("value") for param in trigger.template["spec"].get("params") or []}
    params = {rule.name: _sample(given[rule.name]) for rule in trigger.reader.rules}
    manifest = build_manifest(
        trigger, _sample_push(trigger), params, RunIdentity(_SAMPLE_KEY, 1, "00000000-0000-4000-8000-000000000000")
    )
    cluster.create_run(manifest, dry_run=True)
    yield Finding(
        True,
        f"trigger {trigger.name}: the cluster would admit {manifest['metadata']['name']} in {trigger.namespace} (dry run)",
    )


def _sample(placeholder: Any) -> Value:
    """Return a value of the same kind as the template's, an object with the same keys."""
    if isinstance(placeholder, dict):
        return dict.fromkeys(placeholder, _SAMPLE_SHA)
    return [_SAMPLE_SHA] if isinstance(placeholder, list) else _SAMPLE_SHA


def _sample_push(trigger: Trigger) -> Push:
    return Push(
        repository=trigger.repository,
        repository_id=0,
        ref="refs/heads/receiver-check",
        before=_SAMPLE_SHA,
        after=_SAMPLE_SHA,
        head_sha=_SAMPLE_SHA,
        created=False,
        deleted=False,
        forced=False,
        pushed_at=0,
        compare="",
        pusher="",
        message="",
        installation_id=None,
        changed=ChangedFiles(names=(), complete=False),
    )
