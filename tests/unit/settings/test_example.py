"""config/receiver.yaml: documented, deployed, and equal to the defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from receiver.core.triggers import compile_triggers
from receiver.settings import load_settings, settings_schema
from receiver.settings.document import read_document

CHECKOUT = Path(__file__).resolve().parents[3]
CONFIG = CHECKOUT / "config" / "receiver.yaml"


def test_the_example_is_what_is_deployed_and_is_good() -> None:
    settings = load_settings(CONFIG, {})
    (striv,) = compile_triggers(settings)
    assert (striv.name, striv.repository, striv.namespace) == ("striv", "bittrance/striv", settings.cluster.namespace)


def documented_keys() -> dict[str, set[str]]:
    """Return section -> keys that the example names, those in comments included; triggers stand under `triggers`."""
    found: dict[str, set[str]] = {}
    section = ""
    for line in CONFIG.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z_]+):", line):
            section = match[1]
            found[section] = set()
        elif match := re.match(r"(?:- |  )(?:# )?([a-z_]+):", line):
            found[section].add(match[1])
    return found


def schema_keys() -> Iterator[tuple[str, set[str]]]:
    schema = settings_schema()
    for name, place in schema["properties"].items():
        reference = (place if "$ref" in place else place["items"])["$ref"]
        yield name, set(schema["$defs"][reference.rpartition("/")[2]]["properties"])


def test_every_setting_is_documented_in_the_example_and_nothing_else() -> None:
    assert documented_keys() == dict(schema_keys())


def test_every_filter_key_is_documented_in_the_example() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    filters = settings_schema()["$defs"]["PushSettings"]["properties"]
    assert [key for key in filters if not re.search(rf"\b{key}\b", text)] == []


def test_every_value_of_the_example_is_the_default() -> None:
    example = read_document(CONFIG).value
    example["serve"]["secrets"] = []
    for name, section in settings_schema()["properties"].items():
        if name != "triggers":
            assert {name: section["default"]} == {name: example[name]}


def test_every_setting_with_a_number_says_its_unit_in_its_name_unless_it_counts() -> None:
    numbers = {
        f"{name}.{key}"
        for name, definition in settings_schema()["$defs"].items()
        for key, place in definition["properties"].items()
        if {"integer", "number"} & {place.get("type"), *(each.get("type") for each in place.get("anyOf", []))}
    }
    counting = {"WorkSettings.concurrency", "JournalSettings.keep_count", "TriggerSettings.max_active"}
    assert {key for key in numbers if not key.endswith(("_seconds", "_days", "_bytes"))} == counting
    assert len(numbers) > 10


def documented_defaults() -> dict[str, str]:
    """Return setting -> default as docs/configuration.md has them, `triggers[].x` included."""
    text = (CHECKOUT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.\[\]]+)` \|(.*?)\|", text, re.MULTILINE)
    return {name: default.strip() for name, default in rows}


def real_defaults() -> dict[str, str]:
    """Return the same from the schema: JSON, and nothing where a setting has to be given."""
    schema = settings_schema()
    found = {}
    for section, place in schema["properties"].items():
        name = (place if "$ref" in place else place["items"])["$ref"].rpartition("/")[2]
        prefix = section if "$ref" in place else f"{section}[]"
        for key, inner in schema["$defs"][name]["properties"].items():
            found[f"{prefix}.{key}"] = json.dumps(inner["default"]) if "default" in inner else ""
    return found


def test_every_default_of_the_documentation_is_the_real_one() -> None:
    documented, real = documented_defaults(), real_defaults()
    # What is written there is the setting that holds instead.
    assert documented.pop("triggers[].namespace") == "`cluster.namespace`"
    assert real.pop("triggers[].namespace") == "null"
    assert documented.pop("triggers[].on.push") == real.pop("triggers[].on") == ""
    assert {name: text.strip("`") for name, text in documented.items()} == {
        name: re.sub(r"^(\d+)\.0$", r"\1", text).strip('"') for name, text in real.items()
    }
