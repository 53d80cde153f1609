"""YAML documents whose values know the line that they came from.

PyYAML alone keeps the last of two equal keys in silence and reads a bare `on` as true (YAML 1.1). Here a
duplicate key is an error, and scalars follow the core schema of YAML 1.2: only true, false, null and numbers
are special.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from receiver.errors import SettingsError

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain dicts, lists and scalars, and the line of every place in it.

    `lines` maps a path such as `$.triggers[0].on.push` to a line, counted from 1.
    """

    file: str
    value: Any = field(repr=False)
    lines: dict[str, int] = field(repr=False)

    def line(self, path: str) -> int | None:
        """Return the line of `path`, or of the nearest place around it that is known."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None

    def error(self, path: str, problem: str) -> SettingsError:
        """Return an error that names this file and the line of `path`."""
        return SettingsError(problem, file=self.file, line=self.line(path))


def read_document(file: Path) -> Document:
    """Read one YAML document from `file`.

    Raises SettingsError, with the line, for a missing file, bad syntax, a duplicate key, a key that is not
    text, a second document or a nesting deeper than 50.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error}); check the path and its permissions"
        raise SettingsError(problem, file=str(file)) from error
    except UnicodeDecodeError as error:
        raise SettingsError("is not UTF-8 text", file=str(file)) from error
    return parse_document(text, file=str(file))


def parse_document(text: str, *, file: str) -> Document:
    """Parse `text` as one YAML document; `file` is only what errors call it. Raises SettingsError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(text for text in (error.context, error.problem) if text)
        raise SettingsError(f"is not valid YAML: {problem}", file=file, line=mark.line + 1 if mark else None) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"is not valid YAML: {error}", file=file) from error
    lines: dict[str, int] = {}
    value = None if root is None else _plain(root, "$", file, lines, 0)
    return Document(file, value, lines)


def _plain(node: yaml.Node, path: str, file: str, lines: dict[str, int], depth: int) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if depth > _DEEPEST:
        raise SettingsError(f"is nested deeper than {_DEEPEST} levels", file=file, line=line)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node, file)
            if key in mapping:
                first = lines[f"{path}.{key}"]
                raise SettingsError(
                    f"the key `{key}` stands here a second time (first on line {first}); keep one of them",
                    file=file,
                    line=key_node.start_mark.line + 1,
                )
            lines[f"{path}.{key}"] = key_node.start_mark.line + 1
            mapping[key] = _plain(value_node, f"{path}.{key}", file, lines, depth + 1)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{path}[{i}]", file, lines, depth + 1) for i, item in enumerate(node.value)]
    return _scalar(node)


def _key(node: yaml.Node, file: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise SettingsError("a key has to be plain text", file=file, line=node.start_mark.line + 1)
    return str(node.value)


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    if getattr(node, "style", None) is not None:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
