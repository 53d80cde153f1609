"""From receiver.yaml and the environment to one frozen `Settings`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from receiver.errors import SettingsError
from receiver.settings.document import Document, read_document
from receiver.settings.model import Settings, Template, TriggerSettings, _File, settings_schema

ENVIRONMENT_PREFIX = "RECEIVER__"
"""Two underscores, because a Kubernetes Service named `receiver` injects RECEIVER_PORT and its like."""

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
_Kind = TypeVar("_Kind", bound=msgspec.inspect.Type)
_ON = re.compile(r"\]\.on(\.push)?$")
_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read `file` and the template files that it names; variables RECEIVER__SECTION__KEY override scalars.

    Raises SettingsError with file and line for anything that is not exactly a known setting.
    """
    document = read_document(file)
    if not isinstance(document.value, dict):
        raise SettingsError("has to be a mapping with the key `triggers`", file=document.file, line=1)
    overridden = _override(document, environment)
    try:
        parsed = msgspec.convert(document.value, _File)
    except msgspec.ValidationError as error:
        raise _explained(document, str(error)) from error
    # Not resolved: Kubernetes makes the files of a ConfigMap links into a folder where the others are not.
    folder = file.absolute().parent
    _refuse_repeated_names(document, parsed.triggers)
    templates = {
        trigger.name: _read_template(document, f"$.triggers[{index}].template", folder / trigger.template)
        for index, trigger in enumerate(parsed.triggers)
    }
    return Settings(
        document=document,
        overridden=overridden,
        folder=folder,
        serve=parsed.serve,
        work=parsed.work,
        journal=parsed.journal,
        cluster=parsed.cluster,
        log=parsed.log,
        triggers=tuple(parsed.triggers),
        templates=templates,
    )


def _override(document: Document, environment: Mapping[str, str]) -> dict[str, str]:
    """Put what the environment says into the document; return which variable set which path."""
    overridden = {}
    sections = {field.encode_name: field for field in msgspec.structs.fields(_File) if field.name != "triggers"}
    for variable in sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX)):
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        known = (
            {field.encode_name: field for field in msgspec.structs.fields(sections[section].type)}
            if section in sections
            else {}
        )
        if key not in known:
            names = [f"{ENVIRONMENT_PREFIX}{section.upper()}__{name.upper()}" for name in known]
            hint = _nearest(variable, names) or f"it has to be {ENVIRONMENT_PREFIX}SECTION__KEY, as in receiver.yaml"
            raise SettingsError(f"the environment variable {variable} overrides no setting; {hint}")
        if _first(msgspec.inspect.type_info(known[key].type), msgspec.inspect.ListType):
            raise SettingsError(
                f"the environment variable {variable} cannot override a list; set it in {document.file}"
            )
        try:
            value = _scalar(environment[variable], known[key].type)
        except msgspec.ValidationError as error:
            raise SettingsError(
                f"the environment variable {variable} is not usable: {_in_words(str(error))}"
            ) from error
        content = document.value.setdefault(section, {})
        if isinstance(content, dict):
            content[key] = value
        overridden[f"$.{section}.{key}"] = variable
    return overridden


def _scalar(text: str, kind: Any) -> Any:
    """Return what a variable says; `null` means none, as in the file, where the setting may be none."""
    if text == "null" and _first(msgspec.inspect.type_info(kind), msgspec.inspect.NoneType):
        return None
    return msgspec.convert(text, kind, strict=False)


def _explained(document: Document, message: str) -> SettingsError:
    found = _PATH.search(message)
    path = found["path"] if found else "$"
    problem = _PATH.sub("", message)
    if unknown := _UNKNOWN.match(problem):
        key = unknown["key"]
        hint = _nearest(key, _known_keys(path)) or f"known here: {', '.join(_known_keys(path)) or 'nothing'}"
        return document.error(_written(document, f"{path}.{key}"), f"`{key}` is not a setting; {hint}")
    if missing := _MISSING.match(problem):
        return document.error(
            path, f"the setting `{missing['key']}` is missing under `{path.removeprefix('$').lstrip('.') or 'the top'}`"
        )
    # GitHub's short forms, `on: push` and `on: [push]`, and their like.
    hint = "; write `on: {push: {}}`, or with filters `on: {push: {branches: [main]}}`" if _ON.search(path) else ""
    return document.error(path, f"`{path.removeprefix('$.')}`: {_in_words(problem)}{hint}")


def _in_words(problem: str) -> str:
    """Return msgspec's words, a regular expression replaced by what it stands for."""
    for place in _places(settings_schema()):
        if "pattern" in place and problem.endswith(f" matching regex {place['pattern']!r}"):
            return f"has to be {place['title']}"
    return problem[0].lower() + problem[1:]


def _places(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    if isinstance(schema, dict | list):
        for inner in schema.values() if isinstance(schema, dict) else schema:
            yield from _places(inner)


def _written(document: Document, path: str) -> str:
    """Return the path as it stands in the file: msgspec says `[...]` for whatever key of a mapping."""
    pattern = re.escape(path).replace(re.escape("[...]"), r"\.[^\[]+")
    return next((known for known in document.lines if re.fullmatch(pattern, known)), path)


def _known_keys(path: str) -> list[str]:
    """Return the keys of the section that a msgspec path such as `$.triggers[0].on` points at."""
    kind: msgspec.inspect.Type | None = msgspec.inspect.type_info(_File)
    for key, index in re.findall(r"\.([^.\[\]]+)|(\[)", path.removeprefix("$")):
        kind = _below(kind, key, is_item=bool(index))
    struct = _first(kind, msgspec.inspect.StructType)
    return [field.encode_name for field in struct.fields] if struct else []


def _below(kind: msgspec.inspect.Type | None, key: str, *, is_item: bool) -> msgspec.inspect.Type | None:
    if is_item and (listing := _first(kind, msgspec.inspect.ListType)):
        return listing.item_type
    if mapping := _first(kind, msgspec.inspect.DictType):
        return mapping.value_type
    struct = _first(kind, msgspec.inspect.StructType)
    return next((field.type for field in struct.fields if field.encode_name == key), None) if struct else None


def _first(kind: msgspec.inspect.Type | None, wanted: type[_Kind]) -> _Kind | None:
    kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    options = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    return next((option for option in options if isinstance(option, wanted)), None)


def _nearest(word: str, known: list[str]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`?" if near else None


def _refuse_repeated_names(document: Document, triggers: list[TriggerSettings]) -> None:
    seen: dict[str, int] = {}
    for index, trigger in enumerate(triggers):
        if trigger.name in seen:
            first = document.line(f"$.triggers[{seen[trigger.name]}].name")
            raise document.error(
                f"$.triggers[{index}].name",
                f"a trigger named `{trigger.name}` stands on line {first} already; give this one another name",
            )
        seen[trigger.name] = index


def _read_template(document: Document, path: str, file: Path) -> Template:
    if not file.is_file():
        raise document.error(path, f"the template {file} does not exist; the path starts at receiver.yaml's folder")
    template = read_document(file)
    value = template.value
    if not isinstance(value, dict) or value.get("apiVersion") != "tekton.dev/v1" or value.get("kind") != "PipelineRun":
        raise SettingsError("has to be one PipelineRun of apiVersion tekton.dev/v1", file=template.file, line=1)
    for place in ("metadata", "spec"):
        if not isinstance(value.get(place), dict):
            raise template.error("$", f"has to have a mapping `{place}`")
    return Template(file, template)
