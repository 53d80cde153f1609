"""What a verified delivery means: the decision that the journal then keeps."""

from __future__ import annotations

from dataclasses import dataclass

from receiver.core.bodies import bounded_payload
from receiver.core.events import Envelope, Push, decode_push, named_repository
from receiver.core.identity import push_keys
from receiver.core.params import PushContext
from receiver.core.signature import Secret, unsigned
from receiver.core.triggers import Trigger, decide, why_ignored
from receiver.errors import RejectedError
from receiver.journal.intake import NewDelivery
from receiver.journal.rows import Wanted

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules that decide: all triggers, the replay window, and how much of a body is kept."""

    triggers: tuple[Trigger, ...]
    replay_window_days: float
    max_stored_body_bytes: int

    def admit(self, payload: bytes, envelope: Envelope, signers: tuple[Secret, ...], *, now: float) -> NewDelivery:
        """Return the delivery with its wanted jobs.

        Raises RejectedError: 400 unusable, 401 signed with another repository's secret, 413 too large to keep.
        """
        if envelope.event != "push":
            return self._other_event(payload, envelope, signers, now)
        push = decode_push(payload, with_files=any(trigger.reads_files for trigger in self.triggers))
        _require_signer(signers, push.repository)
        decisions = decide(self.triggers, push)
        matched = [decision.trigger for decision in decisions if decision.matched]
        if not matched:
            reason, detail = why_ignored(decisions)
            return NewDelivery(envelope, now, reason, detail, push)
        oldest = now - self.replay_window_days * _DAY_SECONDS
        if push.pushed_at is not None and push.pushed_at < oldest:
            detail = f"the push is older than {self.replay_window_days:g} days; push again"
            return NewDelivery(envelope, now, "stale", detail, push)
        return self._wanted(payload, envelope, push, matched, now)

    def _wanted(
        self, payload: bytes, envelope: Envelope, push: Push, matched: list[Trigger], now: float
    ) -> NewDelivery:
        stored = bounded_payload(payload, limit_bytes=self.max_stored_body_bytes)
        if stored is None:
            raise RejectedError(
                413, "too-large", f"what a run needs of the payload is longer than {self.max_stored_body_bytes} bytes"
            )
        for trigger in matched:
            # Only to refuse now, while GitHub listens, what the worker would have to give up on: it reads what is stored.
            trigger.reader.read(push, PushContext(delivery_id=envelope.guid, trigger=trigger.name), stored)
        return NewDelivery(
            envelope,
            now,
            "matched",
            push=push,
            keys=push_keys(push, envelope.guid),
            payload=stored,
            wanted=tuple(Wanted(trigger.name, trigger.name_prefix) for trigger in matched),
        )

    def _other_event(self, payload: bytes, envelope: Envelope, signers: tuple[Secret, ...], now: float) -> NewDelivery:
        repository = named_repository(payload) or ""
        if repository:
            _require_signer(signers, repository)
        reason = "ping" if envelope.event == "ping" else "event"
        detail = "the receiver hears you" if reason == "ping" else f"the event `{envelope.event}` starts nothing"
        return NewDelivery(envelope, now, reason, detail, repository=repository)


def _require_signer(signers: tuple[Secret, ...], repository: str) -> None:
    if not any(secret.signs_for(repository) for secret in signers):
        raise unsigned()
