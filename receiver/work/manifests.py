"""From a job to the manifest of its run, by what today's configuration says about the stored payload. The row is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from receiver.core.events import Push, decode_push
from receiver.core.identity import is_job_of
from receiver.core.params import PushContext
from receiver.core.pipelinerun import RunIdentity, build_manifest
from receiver.core.triggers import Trigger, decide
from receiver.errors import PermanentError, TamperedError
from receiver.journal.changes import Job


def manifest_of(job: Job, triggers: Mapping[str, Trigger]) -> dict[str, Any]:
    """Return the PipelineRun to create for a job.

    Raises PermanentError when the configuration or the journal gives none (any more), RejectedError for a payload that cannot
    be used, TamperedError for a job that is not its payload's.
    """
    trigger = triggers.get(job.trigger)
    if trigger is None:
        raise PermanentError(f"the trigger `{job.trigger}` is no longer configured")
    if job.payload is None:
        raise PermanentError("the payload is no longer in the journal, or is damaged")
    push = decode_push(job.payload, with_files=trigger.reads_files)
    _require_own(job, push)
    _require_match(trigger, push)
    params = trigger.reader.read(push, PushContext(delivery_id=job.guid, trigger=trigger.name), job.payload)
    identity = RunIdentity(key=job.key, generation=job.generation, delivery_id=job.guid, salt=job.salt)
    return build_manifest(trigger, push, params, identity)


def _require_own(job: Job, push: Push) -> None:
    # So the key in a run's annotation always tells truly which push it is for, and no payload can take another's place.
    if not is_job_of(push, key=job.key, push_key=job.push_key, trigger=job.trigger, generation=job.generation):
        raise TamperedError("the job does not belong to its payload: the receiver has not written the one or the other")


def _require_match(trigger: Trigger, push: Push) -> None:
    (decision,) = decide((trigger,), push)
    if not decision.matched:
        raise PermanentError(f"the trigger `{trigger.name}` does not match this push (any more): {decision.detail}")
