r"""The filter patterns of GitHub Actions: their language, and a matcher whose cost no name can blow up.

The language (https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax, the filter
pattern cheat sheet): `*` any characters but `/` · `**` any characters · `**/` at the start of a path segment:
any leading directories, or none · `?` zero or one of the preceding character · `+` one or more of it ·
`[ab0-9]` one of these · `!` first negates · a backslash makes `* ? + [ ] ! \` literal. The whole name has to
match, exactly as it is written.

A name is an outsider's choice, so nothing here backtracks. A pattern is cut into its literal beginning, its
literal end and the units between. What is between is matched with one integer whose bit i says "the units so
far can end before character i of the name"; each unit is a few integer operations on all positions at once.
The number of steps is thus at most the number of units, whatever the name is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import repeat, takewhile
from typing import Literal, NamedTuple, NoReturn

Kind = Literal["ref", "path"]
Matcher = Callable[[str], bool]

_SPECIAL = frozenset("*?+[]!\\")
_NEWLINE = re.compile(r"[\r\n]")
_NEVER_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:]")
_FAMILIES = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MOST_CODES = 255


class GlobError(ValueError):
    """A pattern that GitHub would refuse or that cannot mean what it seems to.

    `pattern` is the whole pattern, `position` the 0-based index of the character at fault, `reason` what is
    wrong and what to write instead. `index` is the 0-based place of the pattern in its list and `key` the
    filter's name as it is written in YAML; whoever knows them fills them in.
    """

    def __init__(self, *, pattern: str, reason: str, position: int = 0, key: str = "") -> None:
        self.pattern = pattern
        self.reason = reason
        self.position = position
        self.index = 0
        self.key = key
        super().__init__(pattern, reason, position)

    def __str__(self) -> str:
        place = f"{self.key}: " if self.key else ""
        return f"{place}pattern {self.pattern!r}, character {self.position + 1}: {self.reason}"


class Op(Enum):
    """What one unit of a pattern takes from the name."""

    ONE = auto()
    OPTIONAL = auto()
    PLUS = auto()
    STAR = auto()
    ANY = auto()
    DIRECTORIES = auto()


class Unit(NamedTuple):
    """One step of a pattern; `chars` are the characters that ONE, OPTIONAL and PLUS accept."""

    op: Op
    chars: frozenset[str] = frozenset()


def parse(pattern: str, *, kind: Kind) -> tuple[Unit, ...]:
    """Return the units of one pattern, a leading `!` left out; raises GlobError for a bad one.

    The errors are those that actionlint reports (https://github.com/rhysd/actionlint/blob/main/glob.go), and
    negated lists such as `[!a]`, which GitHub does not have.
    """
    start = int(pattern.startswith("!"))
    _check_text(pattern, start, kind)
    units: list[Unit] = []
    position = start
    while position < len(pattern):
        unit, after = _unit(pattern, position, start, kind)
        if unit.op in (Op.OPTIONAL, Op.PLUS):
            if not units or units[-1].op is not Op.ONE:
                char = pattern[position]
                reason = f"`{char}` is about the character before it, and none stands there"
                _fail(pattern, position, f"{reason}; write `\\{char}` for the character itself")
            unit = Unit(unit.op, units.pop().chars)
        units.append(unit)
        position = after
    return tuple(units)


def _check_text(pattern: str, start: int, kind: Kind) -> None:
    if not pattern:
        _fail(pattern, 0, "the pattern is empty; write a name, or `**` for all")
    if start == len(pattern):
        _fail(pattern, 0, "`!` stands alone; write what to exclude after it, or `\\!` for the character")
    if newline := _NEWLINE.search(pattern):
        _fail(pattern, newline.start(), "a pattern is one line; write each pattern as an item of its own")
    if kind == "path":
        return
    if bad := _NEVER_IN_A_REF.search(pattern):
        reason = f"git allows no {bad[0]!r} in a branch or tag name"
        _fail(pattern, bad.start(), f"{reason}; write `*` in its place, or leave it out")
    if pattern[start] == "/":
        _fail(pattern, start, "no branch or tag name begins with `/`; leave it out")
    if pattern[-1] in "/.":
        reason = f"no branch or tag name ends with `{pattern[-1]}`"
        _fail(pattern, len(pattern) - 1, f"{reason}; leave it out, or write `**` after it")


def _unit(pattern: str, position: int, start: int, kind: Kind) -> tuple[Unit, int]:
    char = pattern[position]
    match char:
        case "*" if pattern.startswith("**", position):
            opens_segment = position == start or pattern[position - 1] == "/"
            after = pattern[position + 2 : position + 4]
            if opens_segment and after[:1] == "/" and after not in ("/?", "/+"):
                return Unit(Op.DIRECTORIES), position + 3
            return Unit(Op.ANY), position + 2
        case "*":
            return Unit(Op.STAR), position + 1
        case "?":
            return Unit(Op.OPTIONAL), position + 1
        case "+":
            return Unit(Op.PLUS), position + 1
        case "[":
            end = pattern.find("]", position)
            if end < 0:
                _fail(pattern, position, "`[` is never closed; write `]`, or `\\[` for the character itself")
            return Unit(Op.ONE, _listed(pattern, position + 1, end)), end + 1
        case "\\" if pattern[position + 1 : position + 2] in _SPECIAL:
            return Unit(Op.ONE, frozenset(pattern[position + 1])), position + 2
        case "\\" if kind == "ref":
            reason = "a backslash is only good before `* ? + [ ] ! \\`, for git allows none in a name"
            _fail(pattern, position, f"{reason}; leave it out")
        case _:
            return Unit(Op.ONE, frozenset(char)), position + 1


def _listed(pattern: str, start: int, end: int) -> frozenset[str]:
    if start == end:
        _fail(pattern, start - 1, "`[]` lists no character; write the characters between the brackets")
    if pattern[start] in "!^":
        reason = f"`[{pattern[start]}` excludes nothing in GitHub's patterns"
        _fail(pattern, start, f"{reason}; exclude with a `!` pattern after this one")
    chars: set[str] = set()
    position = start
    while position < end:
        char = pattern[position]
        if char == "\\":
            _fail(pattern, position, "a backslash has no meaning between brackets; write the character alone")
        if position + 1 < end and pattern[position + 1] == "-":
            chars.update(_range(pattern, position, end))
            position += 3
            continue
        if char == "-":
            _fail(pattern, position, "the range has no beginning; write it whole, such as `0-9`")
        chars.add(char)
        position += 1
    return frozenset(chars)


def _range(pattern: str, position: int, end: int) -> str:
    if position + 2 >= end:
        _fail(pattern, position + 1, "the range has no end; write it whole, such as `0-9`")
    first, last = pattern[position], pattern[position + 2]
    for family in _FAMILIES:
        if first in family and last in family:
            if first > last:
                _fail(pattern, position, f"the range `{first}-{last}` runs backwards; write `{last}-{first}`")
            return family[family.index(first) : family.index(last) + 1]
    _fail(pattern, position, f"`{first}-{last}` is no range; ranges lie within a-z, A-Z or 0-9")


def _fail(pattern: str, position: int, reason: str) -> NoReturn:
    raise GlobError(pattern=pattern, position=position, reason=reason)


def matcher(pattern: str, *, kind: Kind) -> Matcher:
    """Return the function that tells whether a name matches, a leading `!` left out; raises GlobError."""
    units = parse(pattern, kind=kind)
    prefix = _literal(units)
    units = units[len(prefix) :]
    if not units:
        return prefix.__eq__
    suffix = _literal(units[::-1])[::-1]
    units = units[: len(units) - len(suffix)]
    if units == (Unit(Op.ANY),) and not suffix:
        return lambda name: name.startswith(prefix)
    inner = _has_no_slash if units == (Unit(Op.STAR),) else _Positions(pattern, units).match
    begin, shortest = len(prefix), len(prefix) + len(suffix)

    def matches(name: str) -> bool:
        return (
            name.startswith(prefix)
            and name.endswith(suffix)
            and len(name) >= shortest
            and inner(name[begin : len(name) - shortest + begin])
        )

    return matches


def _literal(units: Sequence[Unit]) -> str:
    plain = takewhile(lambda unit: unit.op is Op.ONE and len(unit.chars) == 1, units)
    return "".join(min(unit.chars) for unit in plain)


def _has_no_slash(name: str) -> bool:
    return "/" not in name


class _Positions:
    """Match units by following all positions of the name at once (see the module's docstring)."""

    __slots__ = ("_code_of", "_steps")

    def __init__(self, pattern: str, units: Sequence[Unit]) -> None:
        known = sorted({"/"}.union(*(unit.chars for unit in units)))
        if len(known) > _MOST_CODES:
            reason = f"it names more than {_MOST_CODES} different characters"
            _fail(pattern, 0, f"{reason}; write `*` or `**` for some of them")
        codes = {char: code for code, char in enumerate(known, start=1)}
        self._code_of = codes.get
        self._steps = tuple((unit.op, _table(unit, codes)) for unit in units)

    def match(self, name: str) -> bool:
        """Tell whether the units take the whole name."""
        # Reversed, because the first digit of a number is its highest bit. 0 is every character not listed.
        coded = bytes(map(self._code_of, reversed(name), repeat(0)))
        masks: dict[bytes, int] = {}
        reached = 1
        for op, table in self._steps:
            lowest = reached & -reached
            if op is Op.ANY:
                reached = ((2 << len(name)) - 1) & -lowest
                continue
            mask = masks.get(table)
            if mask is None:
                mask = masks[table] = int(b"0" + coded.translate(table), 2)
            if op is Op.DIRECTORIES:
                # A directory is at least one character and its slash.
                reached |= (mask << 1) & -(lowest << 2)
            elif op is Op.OPTIONAL:
                reached |= (reached & mask) << 1
            else:
                if op is not Op.STAR:
                    reached = (reached & mask) << 1
                if op is not Op.ONE:
                    # The addition carries each reached position through its run of accepted characters.
                    reached |= ((reached & mask) + mask) ^ mask
            if not reached:
                return False
        return bool(reached >> len(name))


def _table(unit: Unit, codes: dict[str, int]) -> bytes:
    accepted = {codes[char] for char in unit.chars}
    if unit.op is Op.DIRECTORIES:
        accepted = {codes["/"]}
    elif unit.op is Op.STAR:
        accepted = set(range(256)) - {codes["/"]}
    return bytes(b"01"[code in accepted] for code in range(256))
