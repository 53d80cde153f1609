"""YAML whose values know their lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SettingsError
from receiver.settings.document import parse_document, read_document

KEYS = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
# PyYAML leaves some texts bare that only YAML 1.2 takes for numbers, such as 08 and 1e3.
TEXTS = st.text(max_size=20).filter(lambda text: not re.match(r"[-+.]?[0-9]", text))
SCALARS = st.none() | st.booleans() | st.integers() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10
)


def parsed(text: str) -> Any:
    return parse_document(text, file="x.yaml").value


def problem(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_document(text, file="x.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: push", {"on": "push"}),
        ("a: yes", {"a": "yes"}),
        ("a: NO", {"a": "NO"}),
        ("a: true", {"a": True}),
        ("a: null", {"a": None}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ('a: "null"', {"a": "null"}),
        ("a: 12", {"a": 12}),
        ("a: 007", {"a": 7}),
        ("a: 0x1f", {"a": 31}),
        ("a: 0o17", {"a": 15}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 2026-10-01", {"a": "2026-10-01"}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: .5", {"a": 0.5}),
        ('a: "12"', {"a": "12"}),
        ("a: 'x'", {"a": "x"}),
        ("a: |\n  12\n", {"a": "12\n"}),
        ("a: &b [1, 2]\nc: *b", {"a": [1, 2], "c": [1, 2]}),
        ("12: x", {"12": "x"}),
        ("", None),
        ("# nothing", None),
        ("[]", []),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parsed(text)
    assert found == value
    assert repr(found) == repr(value)


@given(VALUES)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    text = yaml.safe_dump(value, default_style='"') if isinstance(value, str) else yaml.safe_dump(value)
    assert parsed(text) == value


@given(st.dictionaries(KEYS, st.integers(), min_size=1), st.data())
def test_a_duplicate_key_is_always_refused_with_both_lines(mapping: dict[str, int], data: st.DataObject) -> None:
    keys = list(mapping)
    again = data.draw(st.sampled_from(keys))
    place = data.draw(st.integers(keys.index(again) + 1, len(keys)))
    lines = [f'"{key}": 1' for key in [*keys[:place], again, *keys[place:]]]
    error = problem("\n".join(lines))
    assert error.line == place + 1
    assert f"`{again}` stands here a second time (first on line {keys.index(again) + 1})" in error.problem


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\n'a': 2", 2),
        ("x:\n  a: 1\n  b: 2\n  a: 3", 4),
        ("- {a: 1, a: 1}", 1),
        ("x: {a: {b: 1,\n b: 2}}", 2),
        ("1: a\n'1': b", 2),
    ],
)
def test_a_duplicate_key_is_refused_at_any_depth_and_in_any_quotes(text: str, line: int) -> None:
    error = problem(text)
    assert (error.line, "a second time" in error.problem) == (line, True)
    assert str(error).startswith(f"x.yaml:{line}: ")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1, 2\nc: 3", 3, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2", 2, "single document"),
        ("a: *nowhere", 1, "undefined alias"),
        ("a: 1\n? [b]\n: 2", 2, "plain text"),
        ("[" * 60 + "]" * 60, 1, "nested deeper than 50 levels"),
        ("a: &a [*a]", 1, "nested deeper than 50 levels"),
    ],
)
def test_what_is_no_plain_document_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    error = problem(text)
    assert (error.line, words in str(error)) == (line, True), str(error)


def test_a_character_that_yaml_forbids_is_refused() -> None:
    assert "not valid YAML" in str(problem("a: \x00"))


def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"x\.yaml: cannot be read \(No such file or directory\); check the path"):
        read_document(tmp_path / "x.yaml")


def test_a_file_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        read_document(tmp_path / "x.yaml")


def test_every_place_knows_its_line_and_an_unknown_one_that_of_the_nearest_around() -> None:
    document = parse_document("a:\n  b:\n  - c: 1\n  - d:\n     e.f: 2\n", file="x.yaml")
    paths = ["$", "$.a", "$.a.b[0]", "$.a.b[0].c", "$.a.b[1].d.e.f", "$.a.b[1].d.nothing", "$.a.b[7].c", "$.z"]
    assert [document.line(path) for path in paths] == [1, 1, 3, 3, 5, 4, 2, 1]
    assert str(document.error("$.a.b[0].c", "is odd")) == "x.yaml:3: is odd"
