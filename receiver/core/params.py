"""Where the values of Pipeline parameters come from: one of our own names, or a path into the payload.

There is no text templating: a value is taken whole or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from receiver.core.events import Push
from receiver.errors import RejectedError

Value = str | list[str] | dict[str, str]
"""What a Tekton v1 param can hold: string, array or object."""


@dataclass(frozen=True, slots=True)
class PushContext:
    """What our own names can speak of, beside the push itself."""

    delivery_id: str
    trigger: str


OWN_NAMES: Mapping[str, Callable[[Push, PushContext], str]] = {
    "after": lambda push, _: push.after,
    "before": lambda push, _: push.before,
    "branch": lambda push, _: push.branch,
    "compare": lambda push, _: push.compare,
    "created": lambda push, _: _flag(push.created),
    "delivery_id": lambda _, context: context.delivery_id,
    "forced": lambda push, _: _flag(push.forced),
    "head_sha": lambda push, _: push.head_sha,
    "pushed_at": lambda push, _: "" if push.pushed_at is None else str(push.pushed_at),
    "pusher": lambda push, _: push.pusher,
    "ref": lambda push, _: push.ref,
    "repository": lambda push, _: push.repository,
    "repository_id": lambda push, _: str(push.repository_id),
    "tag": lambda push, _: push.tag,
    "title": lambda push, _: push.title,
    "trigger": lambda _, context: context.trigger,
}

_STEP = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class ParamRule:
    """One Pipeline parameter: its `name`, its `source`, and the `default` for when the source has nothing."""

    name: str
    source: str
    default: Value | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The steps into the payload; empty when the source is one of our own names."""
        return () if self.source in OWN_NAMES else tuple(self.source.split("."))


def check_source(source: str) -> str | None:
    """Return what is wrong with the source of a parameter, None when it is usable."""
    if source in OWN_NAMES:
        return None
    if "." not in source:
        known = ", ".join(OWN_NAMES)
        return (
            f"`{source}` is none of the names {known}, and a payload path holds a dot, as in repository.default_branch"
        )
    if not all(_STEP.fullmatch(step) for step in source.split(".")):
        return f"`{source}` is not a payload path: the keys of JSON objects joined by dots, as in repository.default_branch"
    return None


def check_default(default: Value | None) -> str | None:
    """Return what is wrong with the default of a parameter, None when it is usable."""
    if default is not None and any("$(" in text for text in _texts(default)):
        return "the default holds `$(`, which Tekton would expand; write it into the template or the Pipeline instead"
    return None


class ParamReader:
    """Fills a trigger's params; the payload decoder is built once and reads nothing but the paths asked for."""

    __slots__ = ("_decoder", "_rules")

    def __init__(self, rules: Iterable[ParamRule]) -> None:
        self._rules = tuple(rules)
        paths = [rule.path for rule in self._rules if rule.path]
        self._decoder = msgspec.json.Decoder(_object_type(paths)) if paths else None

    @property
    def rules(self) -> tuple[ParamRule, ...]:
        """The parameters that this reader fills, and from what."""
        return self._rules

    def read(self, push: Push, context: PushContext, payload: bytes) -> dict[str, Value]:
        """Return parameter -> value for a push.

        Raises RejectedError(400) when a value is absent without default, is of a kind that Tekton's params cannot hold, or
        holds `$(`, which Tekton would expand or refuse.
        """
        try:
            tree = self._decoder.decode(payload) if self._decoder else None
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise RejectedError(
                400, "param", f"the payload has not the shape that the params expect: {error}"
            ) from error
        return {rule.name: _value(rule, push, context, tree) for rule in self._rules}


def _value(rule: ParamRule, push: Push, context: PushContext, tree: Any) -> Value:
    own = OWN_NAMES.get(rule.source)
    found = own(push, context) if own else _walk(tree, rule.path)
    value = _as_param(rule, found)
    if value in ("", None) and rule.default is not None:
        value = rule.default
    if value is None:
        raise RejectedError(
            400, "param", f"the payload has no `{rule.source}`, which the parameter `{rule.name}` needs"
        )
    for text in _texts(value):
        if "$(" in text:
            raise RejectedError(
                400, "param", f"the value of the parameter `{rule.name}` holds `$(`, which Tekton would expand"
            )
        if not _encodable(text):
            raise RejectedError(400, "param", f"the value of the parameter `{rule.name}` is not Unicode text")
    return value


def _as_param(rule: ParamRule, found: Any) -> Value | None:
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, bool | int | float):
        return _scalar(found)
    if isinstance(found, list) and all(isinstance(item, str | bool | int | float) for item in found):
        return [_scalar(item) for item in found]
    if isinstance(found, dict) and all(isinstance(item, str | bool | int | float) for item in found.values()):
        return {str(key): _scalar(item) for key, item in found.items()}
    raise RejectedError(400, "param", f"`{rule.source}` is nested deeper than the parameter `{rule.name}` can hold")


def _scalar(value: str | bool | float) -> str:
    return _flag(value) if isinstance(value, bool) else str(value)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _texts(value: Value) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, list) else (*value.keys(), *value.values())


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object_type(paths: list[tuple[str, ...]]) -> type[msgspec.Struct]:
    """Return a struct that holds exactly these paths; JSON keys may be no Python names, so fields are numbered."""
    steps = list(dict.fromkeys(path[0] for path in paths))
    kinds = [_kind([path[1:] for path in paths if path[0] == step]) for step in steps]
    fields = [(f"value_{number}", kind, None) for number, kind in enumerate(kinds)]
    return msgspec.defstruct("Payload", fields, rename={f"value_{number}": step for number, step in enumerate(steps)})


def _kind(below: list[tuple[str, ...]]) -> Any:
    # Where one rule wants an object whole and another a part of it, the whole is decoded.
    return _object_type(below) | None if all(below) else Any


def _walk(tree: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if isinstance(tree, msgspec.Struct):
            names = {field.encode_name: field.name for field in msgspec.structs.fields(tree)}
            tree = getattr(tree, names[step])
        elif isinstance(tree, dict):
            tree = tree.get(step)
        else:
            return None
    return tree
