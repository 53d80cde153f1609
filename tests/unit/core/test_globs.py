"""The pattern language, its errors, and the cost of hostile names."""

from __future__ import annotations

import json
import re
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.core.filters import Patterns
from receiver.core.globs import GlobError, Kind, matcher
from tests.support.needs import beside_the_checkout

SHARED_VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "glob-vectors.json"


def selects(patterns: list[str], name: str, kind: Kind) -> bool:
    return Patterns.compile(patterns, kind=kind, negatable=True).select(name)


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves"),
    [
        ("trunk", ["trunk"], ["Trunk", "trunks", "x/trunk", "trunk/x", "trun", ""]),
        ("*", ["trunk", "a.b-c", ""], ["a/b", "/", "a/"]),
        ("**", ["trunk", "a/b/c", ""], []),
        ("***", ["trunk", "a/b/c"], []),
        ("team/*", ["team/x", "team/"], ["team", "team/x/y", "teams/x"]),
        ("team/**", ["team/x", "team/x/y"], ["team", "teams/x", "a/team/x"]),
        ("*-fix", ["-fix", "a-fix"], ["a/b-fix", "a-fixed", "fix"]),
        ("**-fix", ["-fix", "a-fix", "a/b-fix"], ["a-fixed", "fix"]),
        ("ab*ba", ["abba", "abxba"], ["aba", "ab/ba"]),
        ("**/ci.yml", ["ci.yml", "a/ci.yml", "a/b/ci.yml"], ["xci.yml", "a/xci.yml", "ci.yml/a"]),
        ("src/**/x.py", ["src/x.py", "src/a/x.py", "src/a/b/x.py"], ["src/ax.py", "x.py", "srcx.py"]),
        ("**/test/**", ["test/a", "a/test/b", "a/b/test/c/d"], ["test", "atest/b", "a/testb/c"]),
        ("**/**/x", ["x", "a/x", "a/b/x"], ["ax"]),
        ("a**/b", ["a/b", "ax/b", "a/x/b"], ["ab", "axb"]),
        ("**/+x", ["/x", "a/x", "a//x"], ["x", "ax"]),
        ("**/?x", ["x", "/x", "ax", "a/x"], ["xa"]),
        ("**/*.tar.*", ["x.tar.gz", "a/x.tar.gz", "a/.tar."], ["x.tar/a", "x.tgz"]),
        ("gr[ae]y", ["gray", "grey"], ["gry", "graey", "grAy"]),
        ("r[0-2].[xX-Z]", ["r0.x", "r2.Y"], ["r3.x", "r0xx", "r0.y"]),
        ("[ab]?c", ["c", "ac", "bc"], ["abc", "dc"]),
        ("v[0-9]+", ["v0", "v007"], ["v", "v1a", "v+"]),
        ("lo+p", ["lop", "loooop"], ["lp", "lo+p"]),
        ("neighbou?r", ["neighbor", "neighbour"], ["neighbouur", "neighbou?r"]),
        ("é+ü?", ["é", "éé", "éü"], ["ü", "éüü", "e"]),
        ("a.b", ["a.b"], ["axb"]),
        ("(a|b){2}$", ["(a|b){2}$"], ["ab"]),
        (r"c\+\+", ["c++"], ["c", "ccc", r"c\+\+"]),
        (r"\!keep", ["!keep"], ["keep", r"\!keep"]),
        ("a!b", ["a!b"], ["ab"]),
        ("[ab]c]", ["ac]", "bc]"], ["ac"]),
    ],
)
def test_a_pattern_takes_whole_names_and_only_those_it_describes(
    pattern: str, takes: list[str], leaves: list[str]
) -> None:
    matches = matcher(pattern, kind="path")
    assert [name for name in takes if not matches(name)] == []
    assert [name for name in leaves if matches(name)] == []


@pytest.mark.parametrize(
    ("patterns", "takes", "leaves"),
    [
        (["rel/**", "!rel/**-rc"], ["rel/1", "rel/a/2"], ["rel/1-rc", "rel/a/2-rc", "trunk"]),
        (["!rel/**-rc", "rel/**"], ["rel/1", "rel/1-rc"], ["trunk"]),
        (["rel/**", "!rel/**-rc", "rel/keep-rc"], ["rel/1", "rel/keep-rc"], ["rel/1-rc"]),
        (["trunk", "dev"], ["trunk", "dev"], ["Trunk", "dev/x"]),
        (["**", "!!odd"], ["odd", "x"], ["!odd"]),
    ],
)
def test_the_last_pattern_that_matches_decides(patterns: list[str], takes: list[str], leaves: list[str]) -> None:
    assert [name for name in takes if not selects(patterns, name, "ref")] == []
    assert [name for name in leaves if selects(patterns, name, "ref")] == []


def test_the_deciding_pattern_is_named_with_its_negation() -> None:
    patterns = Patterns.compile(["rel/**", "!rel/**-rc"], kind="ref", negatable=True)
    assert patterns.deciding("rel/1-rc") == "!rel/**-rc"
    assert patterns.deciding("rel/1") == "rel/**"
    assert patterns.deciding("trunk") is None


def test_composed_and_decomposed_letters_are_different_names() -> None:
    assert selects(["caf\u00e9"], "caf\u00e9", "ref")
    assert not selects(["caf\u00e9"], "cafe\u0301", "ref")


def test_a_newline_in_a_name_is_a_character_like_others() -> None:
    assert selects(["*.md"], "a\nb.md", "path")
    assert not selects(["a.md"], "a.md\n", "path")


def test_a_backslash_before_an_ordinary_character_is_itself_in_a_path() -> None:
    assert selects([r"a\b"], r"a\b", "path")
    assert selects([r"a\\b"], r"a\b", "path")
    assert selects(["a\\"], "a\\", "path")


def shared_vectors() -> Iterator[Any]:
    text = SHARED_VECTORS.read_text("utf-8") if SHARED_VECTORS.exists() else "{}"
    for kind, cases in json.loads(text).items():
        for case in cases:
            yield pytest.param(kind, case, id=f"{kind}-{'-'.join(case['patterns'])}")


@beside_the_checkout(SHARED_VECTORS, "the shared patterns")
@pytest.mark.parametrize(("kind", "case"), list(shared_vectors()))
def test_the_shared_vectors_hold(kind: Kind, case: dict[str, list[str]]) -> None:
    assert [name for name in case["match"] if not selects(case["patterns"], name, kind)] == []
    assert [name for name in case["no_match"] if selects(case["patterns"], name, kind)] == []


BAD_EVERYWHERE = [
    ("", 0, "empty"),
    ("!", 0, "alone"),
    ("?a", 0, "before it"),
    ("+a", 0, "before it"),
    ("!+a", 1, "before it"),
    ("a*?", 2, "before it"),
    ("a**+", 3, "before it"),
    ("ab?+", 3, "before it"),
    ("ab++", 3, "before it"),
    ("x[ab", 1, "never closed"),
    ("x[]y", 1, "no character"),
    ("x[a-]", 3, "no end"),
    ("x[-a]", 2, "no beginning"),
    ("[z-a]", 1, "backwards"),
    ("[A-z]", 1, "no range"),
    ("[0-f]", 1, "no range"),
    ("[+-.]", 1, "no range"),
    ("[!ab]", 1, "excludes nothing"),
    (r"[\]]", 1, "backslash"),
    ("a\nb", 1, "one line"),
    ("a\r", 1, "one line"),
]
BAD_IN_REFS = [
    ("/a", 0, "begins"),
    ("!/a", 1, "begins"),
    ("a/", 1, "ends"),
    ("a/**/", 4, "ends"),
    ("v1.", 2, "ends"),
    ("a b", 1, "' '"),
    ("a\tb", 1, "t'"),
    ("a~1", 1, "'~'"),
    ("[a^]", 2, "'^'"),
    ("a:b", 1, "':'"),
    (r"a\b", 1, "backslash"),
    ("a\\", 1, "backslash"),
]


@pytest.mark.parametrize("kind", ["ref", "path"])
@pytest.mark.parametrize(("pattern", "position", "words"), BAD_EVERYWHERE)
def test_a_bad_pattern_is_refused_with_its_place(pattern: str, position: int, words: str, kind: Kind) -> None:
    check_refusal(pattern, position, words, kind)


@pytest.mark.parametrize(("pattern", "position", "words"), BAD_IN_REFS)
def test_a_pattern_that_no_ref_could_match_is_refused(pattern: str, position: int, words: str) -> None:
    check_refusal(pattern, position, words, "ref")


def check_refusal(pattern: str, position: int, words: str, kind: Kind) -> None:
    with pytest.raises(GlobError) as caught:
        matcher(pattern, kind=kind)
    error = caught.value
    assert (error.pattern, error.position) == (pattern, position)
    assert words in error.reason
    # What is wrong, and after the semicolon what to write instead.
    assert ";" in error.reason
    assert repr(pattern) in str(error)
    assert error.reason in str(error)


@pytest.mark.parametrize("pattern", ["/a", "a/", "v1.", "a b", "a~^:", r"a\b"])
def test_what_only_refs_cannot_hold_is_good_in_a_path(pattern: str) -> None:
    assert matcher(pattern, kind="path")(pattern)


def test_a_pattern_with_too_many_different_characters_is_refused() -> None:
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    with pytest.raises(GlobError, match="different characters"):
        matcher(f"*[{many}]*", kind="path")


TOKENS = ["a", "b", "ab", "/", ".", "é", "*", "**", "**/", "/**/", "?", "+", "[ab]", "[a-c0-9]", r"\*", r"\+"]


def regular_expression(pattern: str) -> re.Pattern[str]:
    """Translate a good pattern the slow and simple way, to compare with."""
    parts = {
        r"(?:(?<=/)|^)\*\*/(?![?+])": r"(?:.+/)?",
        r"\*\*": r".*",
        r"\*": r"[^/]*",
        r"[?+]": r"\g<0>",
        r"\[[^]]+\]": r"\g<0>",
        r"\\[*?+\[\]!\\]": r"\g<0>",
    }
    translated, position = "", 0
    while position < len(pattern):
        for part, into in parts.items():
            if found := re.compile(part).match(pattern, position):
                translated += found.expand(into)
                position = found.end()
                break
        else:
            translated += re.escape(pattern[position])
            position += 1
    return re.compile(translated, re.DOTALL)


@st.composite
def patterns_and_names(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a pattern and a name that it takes, or nearly takes."""
    tokens = draw(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9))
    pieces = {
        "*": ["", "a", "b.b"],
        "**": ["", "a", "a/b", "/"],
        "**/": ["", "a/", "b/a/", "/"],
        "/**/": ["/", "/a/", "/b/a/", "//"],
        "?": [""],
        "+": ["", "a", "b"],
        "[ab]": ["a", "b", "c"],
        "[a-c0-9]": ["c", "0", "-"],
        r"\*": ["*", "a"],
        r"\+": ["+", ""],
    }
    name = "".join(draw(st.sampled_from([*pieces.get(token, [token, token, ""])])) for token in tokens)
    return "".join(tokens), name


@settings(max_examples=600, deadline=None)
@given(patterns_and_names())
def test_every_pattern_matches_as_its_regular_expression_does(drawn: tuple[str, str]) -> None:
    pattern, name = drawn
    try:
        matches = matcher(pattern, kind="path")
    except GlobError:
        assert re.search(r"(?:^|[*?+])[?+]", re.sub(r"\\.", "x", pattern))
        return
    assert matches(name) is bool(regular_expression(pattern).fullmatch(name))


@given(st.text(string.printable + "é", max_size=12), st.sampled_from(["ref", "path"]))
def test_any_text_is_a_pattern_or_a_glob_error_that_points_into_it(pattern: str, kind: Kind) -> None:
    try:
        position = int(matcher(pattern, kind=kind)("any/name"))
    except GlobError as error:
        position = error.position
    assert 0 <= position <= max(0, len(pattern) - 1)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1))
def test_a_name_with_its_special_characters_escaped_matches_itself(name: str) -> None:
    escaped = re.sub(r"[*?+\[\]!\\]", r"\\\g<0>", name)
    assert matcher(escaped, kind="path")(name)


# All begin and end with a wildcard, so that no cheap look at the ends of the name spares the work between.
HOSTILE = [
    ("**a**a**a**a**b**", "a"),
    ("*a*a*a*a*b*", "a"),
    ("**/a/**/a/**/a/**/b/**", "a/"),
    ("*" + "a?" * 60 + "a" * 60 + "+b*", "a"),
    ("[ab]+[ab]+[ab]+[ab]+c[ab]+", "ab"),
    ("**[a-z]?*" * 30 + "0*", "a"),
    ("**é*é**é*b**", "é"),
]


def best_seconds(pattern: str, name: str) -> float:
    matches = matcher(pattern, kind="path")
    assert not matches(name)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        matches(name)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(("pattern", "unit"), HOSTILE)
def test_a_hostile_path_of_4096_characters_costs_less_than_a_millisecond(pattern: str, unit: str) -> None:
    name = (unit * 4096)[-4096:]
    assert best_seconds(pattern, name) < 1e-3


@pytest.mark.parametrize(("pattern", "unit"), HOSTILE)
def test_the_cost_of_a_match_grows_with_the_length_of_the_name_and_no_faster(pattern: str, unit: str) -> None:
    # 16 times as long: a matcher of quadratic cost would take 256 times as long.
    short, long = (unit * 4096)[-4096:], (unit * 65536)[-65536:]
    assert best_seconds(pattern, long) < 64 * best_seconds(pattern, short)
