"""Triggers: our rules, compiled from the settings, and what they say about a push."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from receiver.core.events import Push
from receiver.core.filters import FilterError, GlobError, PushFilter
from receiver.core.identity import run_name
from receiver.core.params import ParamReader, ParamRule, check_default, check_source
from receiver.settings import ParamSettings, PushSettings, Settings, Template, TriggerSettings

_SKIP = re.compile(r"\[(skip ci|ci skip|no ci|skip actions|actions skip)\]", re.IGNORECASE)
# `[^:\n]` and not `.`, so that there is one way only to read a line: a message is an outsider's choice.
_SKIP_TRAILER = re.compile(r"\n[ \t]*\n([^:\n]+:.*\n)*skip-checks:[ \t]*true\s*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A rule that is ready to decide: which pushes of which repository start which run."""

    name: str
    repository: str
    filter: PushFilter
    reader: ParamReader = field(repr=False)
    template: dict[str, Any] = field(repr=False)
    name_prefix: str
    namespace: str
    skip_markers: bool
    max_active: int | None

    @property
    def reads_files(self) -> bool:
        """Whether the filter needs the changed files of a push."""
        return self.filter.paths is not None or self.filter.paths_ignore is not None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one trigger says about one push; `reason` is a short machine word, `detail` a sentence."""

    trigger: Trigger
    matched: bool
    reason: str
    detail: str


def decide(triggers: Iterable[Trigger], push: Push) -> tuple[Decision, ...]:
    """Ask every trigger, in their order."""
    return tuple(_decide(trigger, push) for trigger in triggers)


def _decide(trigger: Trigger, push: Push) -> Decision:
    if push.repository.lower() != trigger.repository.lower():
        return Decision(
            trigger,
            False,
            "repository",
            f"the push is to {push.repository}, the trigger waits for {trigger.repository}",
        )
    if push.deleted:
        return Decision(trigger, False, "deleted", f"{push.ref} was deleted: there is nothing to test")
    if not push.head_sha:
        return Decision(trigger, False, "no-commit", f"{push.ref} points at no commit")
    if trigger.skip_markers and skips(push.message):
        return Decision(trigger, False, "skip-ci", "the head commit's message asks to skip CI")
    verdict = trigger.filter.decide(ref=push.ref, changed_files=push.changed)
    return Decision(trigger, verdict.matched, verdict.reason, verdict.detail)


def why_ignored(decisions: Iterable[Decision]) -> tuple[str, str]:
    """Return the reason and the sentence that explain best why no trigger matched."""
    ordered = sorted(decisions, key=lambda decision: decision.reason == "repository")
    if not ordered:
        return "no-trigger", "no trigger is configured"
    return ordered[0].reason, ordered[0].detail


def skips(message: str) -> bool:
    """Tell whether a commit message asks to skip CI, as GitHub Actions reads it (markers, or a last trailer)."""
    # The cheap test first: nearly no message has a marker, and messages can be long.
    return ("[" in message and bool(_SKIP.search(message))) or bool(
        "skip-checks" in message.lower() and _SKIP_TRAILER.search(message)
    )


def compile_triggers(settings: Settings) -> tuple[Trigger, ...]:
    """Turn the settings into triggers; raises SettingsError with file and line for a bad glob, source or template."""
    return tuple(_compile(settings, index, trigger) for index, trigger in enumerate(settings.triggers))


def _compile(settings: Settings, index: int, trigger: TriggerSettings) -> Trigger:
    path = f"$.triggers[{index}]"
    template = settings.templates[trigger.name]
    rules = _rules(settings, f"{path}.params", trigger, template)
    return Trigger(
        name=trigger.name,
        repository=trigger.repository,
        filter=_filter(settings, f"{path}.on.push", trigger.on.push or PushSettings()),
        reader=ParamReader(rules),
        template=template.value,
        name_prefix=_name_prefix(template),
        namespace=trigger.namespace or settings.cluster.namespace,
        skip_markers=trigger.skip_markers,
        max_active=trigger.max_active,
    )


def _filter(settings: Settings, path: str, push: PushSettings) -> PushFilter:
    lists = {
        name: [value] if isinstance(value, str) else value
        for name in ("branches", "branches_ignore", "tags", "tags_ignore", "paths", "paths_ignore")
        if (value := getattr(push, name)) is not None
    }
    try:
        return PushFilter.build(**lists)
    except FilterError as error:
        raise settings.document.error(f"{path}.{error.key}" if error.key else path, str(error)) from error
    except GlobError as error:
        raise settings.document.error(f"{path}.{error.key}[{error.index}]", str(error)) from error


def _rules(settings: Settings, path: str, trigger: TriggerSettings, template: Template) -> list[ParamRule]:
    declared = template.value["spec"].get("params") or []
    if not isinstance(declared, list) or not all(
        isinstance(param, dict) and isinstance(param.get("name"), str) for param in declared
    ):
        raise template.document.error("$.spec.params", "`spec.params` has to be a list of name and value")
    names = [param["name"] for param in declared]
    rules = []
    for name, value in trigger.params.items():
        place = f"{path}.{name}"
        if name not in names:
            known = ", ".join(names) or "none"
            raise settings.document.error(
                place,
                f"the template {trigger.template} has no parameter `{name}`; it has: {known}. Add it there, or correct the name",
            )
        rule = value if isinstance(value, ParamSettings) else ParamSettings(source=value)
        if problem := check_source(rule.source):
            raise settings.document.error(place, problem)
        if problem := check_default(rule.default):
            raise settings.document.error(place, problem)
        rules.append(ParamRule(name=name, source=rule.source, default=rule.default))
    return rules


def _name_prefix(template: Template) -> str:
    metadata = template.value["metadata"]
    prefix = metadata.get("generateName")
    if "name" in metadata or not isinstance(prefix, str):
        raise template.document.error(
            "$.metadata", "give the run a `generateName` (and no `name`), such as `striv-`: the receiver adds the rest"
        )
    if not re.fullmatch(r"[a-z][a-z0-9-]*", prefix):
        raise template.document.error(
            "$.metadata.generateName", f"`{prefix}` has to begin with a letter and hold only a-z, 0-9 and dashes"
        )
    try:
        run_name(prefix, b"")
    except ValueError as error:
        raise template.document.error("$.metadata.generateName", str(error)) from error
    return prefix


__all__ = ["Decision", "Trigger", "compile_triggers", "decide", "skips", "why_ignored"]
