"""`receiver schema`: what an editor is told about receiver.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.settings.document import parse_document, read_document
from tests.unit.cli.conftest import Run

CONFIG = Path(__file__).resolve().parents[3] / "config" / "receiver.yaml"

KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
KEYWORDS = {
    "$schema", "$ref", "$defs", "title", "description", "default", "type", "properties", "required",
    "additionalProperties", "anyOf", "items", "minItems", "pattern", "minimum", "maximum", "exclusiveMinimum",
}  # fmt: skip


def problems(schema: dict[str, Any], value: Any, root: dict[str, Any], path: str = "$") -> list[str]:
    """Validate by the keywords that our schema uses; any other keyword is a problem itself."""
    found = [f"{path}: keyword {name}" for name in schema.keys() - KEYWORDS]
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        return found + problems(target, value, root, path)
    if "anyOf" in schema:
        tried = [problems(option, value, root, path) for option in schema["anyOf"]]
        return found + ([] if [] in tried else min(tried, key=len))
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [*found, f"{path}: {value!r} is no {kind}"]
    checks: dict[str, Callable[[Any], Any]] = {
        "pattern": lambda limit: re.search(limit, value),
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "minItems": lambda limit: len(value) >= limit,
    }
    found += [f"{path}: {name}" for name, holds in checks.items() if name in schema and not holds(schema[name])]
    if isinstance(value, list) and "items" in schema:
        found += [each for item in value for each in problems(schema["items"], item, root, f"{path}[]")]
    if isinstance(value, dict):
        found += [f"{path}: no {name}" for name in schema.get("required", ()) if name not in value]
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        for name, inner in value.items():
            if name in known:
                found += problems(known[name], inner, root, f"{path}.{name}")
            elif rest is False:
                found.append(f"{path}: {name}")
            elif isinstance(rest, dict):
                found += problems(rest, inner, root, f"{path}.{name}")
    return found


@pytest.fixture
def schema(run: Run) -> dict[str, Any]:
    """What `receiver schema` prints."""
    done = run("schema")
    assert done.code == 0
    printed: dict[str, Any] = json.loads(done.out)
    return printed


def test_the_schema_takes_the_documented_example(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "receiver.yaml"
    assert problems(schema, read_document(CONFIG).value, schema) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "$: no triggers"),
        ("triggers: []", "$.triggers: minItems"),
        ("serv: {}\ntriggers: [x]", "$: serv"),
        ("serve: {max_body_bytes: 25MB}\ntriggers: [x]", "$.serve.max_body_bytes: '25MB' is no integer"),
        ("serve: {body_timeout_seconds: 0}\ntriggers: [x]", "$.serve.body_timeout_seconds: exclusiveMinimum"),
        ("log: {level: loud}\ntriggers: [x]", "$.log.level: pattern"),
        (
            "triggers: [{name: x, repository: a/b, on: {push: {branch: x}}, template: y}]",
            "$.triggers[].on.push: branch",
        ),
    ],
)
def test_the_schema_refuses_what_the_receiver_refuses(schema: dict[str, Any], text: str, problem: str) -> None:
    assert problem in problems(schema, parse_document(text, file="x").value, schema)


def test_the_schema_describes_every_section_and_every_property(schema: dict[str, Any]) -> None:
    for name, section in {**schema["$defs"], "the file": schema}.items():
        assert section["additionalProperties"] is False, name
        assert section is schema or section["description"], name
        for key, place in section["properties"].items():
            target = schema["$defs"][place["$ref"].removeprefix("#/$defs/")] if "$ref" in place else place
            assert target.get("description"), f"{name}.{key}"


def test_the_schema_says_in_words_what_a_pattern_does(schema: dict[str, Any]) -> None:
    def places(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            yield value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from places(inner)

    patterns = [place for place in places(schema) if isinstance(place.get("pattern"), str)]
    assert len(patterns) > 5
    assert [place["pattern"] for place in patterns if not place.get("title")] == []
