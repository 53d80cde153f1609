"""From a template and a push to the manifest of a PipelineRun (tekton.dev/v1)."""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from receiver.core.events import Push
from receiver.core.identity import run_name
from receiver.core.params import Value
from receiver.core.triggers import Trigger

PREFIX = "striv-receiver.dev/"
KEY = PREFIX + "key"
"""The annotation that proves a run to be a job's own: the job's full key in hex."""
DELIVERY = PREFIX + "delivery"
"""The label and annotation with the delivery's GUID."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "striv-receiver"}
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_LABEL_LENGTH = 63
_TEXT_LENGTH = 1_000  # characters in an annotation; all annotations of an object share 256 KiB


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Which run this is: the job's `key` (32 bytes), its generation, the delivery's GUID, and the salt of the name."""

    key: bytes
    generation: int
    delivery_id: str
    salt: int = 0


def build_manifest(trigger: Trigger, push: Push, params: dict[str, Value], identity: RunIdentity) -> dict[str, Any]:
    """Return the PipelineRun for one push and one trigger: the template's content, our name, labels, annotations, params."""
    manifest = copy.deepcopy(trigger.template)
    metadata = manifest["metadata"]
    del metadata["generateName"]
    metadata["name"] = run_name(trigger.name_prefix, identity.key, salt=identity.salt)
    metadata["namespace"] = trigger.namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), **_labels(trigger, push, identity)}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **_annotations(push, identity)}
    if params:
        spec = manifest["spec"]
        spec["params"] = [{**param, "value": params.get(param["name"], param.get("value"))} for param in spec["params"]]
    return manifest


def _labels(trigger: Trigger, push: Push, identity: RunIdentity) -> dict[str, str]:
    return {
        **MANAGED_BY,
        PREFIX + "trigger": trigger.name,
        PREFIX + "repository": clean_label(push.repository),
        PREFIX + "repository-id": str(push.repository_id),
        PREFIX + ("branch" if push.branch else "tag"): clean_label(push.branch or push.tag),
        PREFIX + "ref-hash": ref_hash(push.ref),
        PREFIX + "sha": push.head_sha[:12],
        DELIVERY: identity.delivery_id,
        PREFIX + "generation": str(identity.generation),
    }


def _annotations(push: Push, identity: RunIdentity) -> dict[str, str]:
    texts = {
        "key": identity.key.hex(),
        "repository": push.repository,
        "ref": push.ref,
        "head-sha": push.head_sha,
        "before": push.before,
        "after": push.after,
        "compare": push.compare,
        "pusher": push.pusher,
        "delivery": identity.delivery_id,
        "title": push.title,
    }
    return {PREFIX + name: _text(text) for name, text in texts.items() if text}


def clean_label(text: str) -> str:
    """Return `text` as a valid label value: unfit characters become dashes, at most 63 are kept, ends are alphanumeric.

    Different texts can become equal (`a/b`, `a-b`): select with the hash label beside it, decide on neither.
    """
    return _UNFIT.sub("-", text)[:_LABEL_LENGTH].strip("-_.")


def ref_hash(ref: str) -> str:
    """Return 16 hex digits that tell refs apart whose labels are equal."""
    return hashlib.sha256(ref.encode()).hexdigest()[:16]


def _text(text: str) -> str:
    # Lone surrogates pass JSON but not UTF-8; a title is never worth a refused run.
    return text.encode("utf-8", "replace").decode("utf-8")[:_TEXT_LENGTH]
