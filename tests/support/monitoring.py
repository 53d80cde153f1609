"""What k8s/monitoring says, in parts that tests can look at: rules, panels, and the series that their expressions name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.planes import ROOT

FOLDER = ROOT / "k8s" / "monitoring"
FROM_SCRAPING = {"namespace", "instance"}
"""Labels that the scraping adds to every series."""

_SELECTOR = re.compile(r"\b((?:receiver[_:]|process_)[\w:]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORD = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\w|\s*\()")
_KEYWORDS = {"or", "and", "unless", "offset"}

Object = dict[str, Any]
Exposed = dict[str, list[dict[str, str]]]
"""Name of a series -> the labels of each of its samples."""


def rule_groups() -> Object:
    """Return the spec of the PrometheusRule, which is also a rule file."""
    spec: Object = yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]
    return spec


def rules() -> list[Object]:
    """Return all rules in their order."""
    return [rule for group in rule_groups()["groups"] for rule in group["rules"]]


def alerts() -> dict[str, Object]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> Object:
    """Return the dashboard."""
    found: Object = json.loads((FOLDER / "striv-receiver.json").read_text())
    return found


def panels() -> list[Object]:
    """Return the panels of the dashboard that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_expressions() -> dict[str, str]:
    """Return what the panels ask, with the variables filled in as Grafana does."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$namespace", "striv-receiver")
        .replace("$__rate_interval", "1m")
        for panel in panels()
        for target in panel["targets"]
    }


@dataclass(frozen=True)
class Selector:
    """A series as an expression names it."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> list[Selector]:
    """Return the series of ours that an expression names."""
    return [Selector(name, tuple(_MATCHER.findall(inner))) for name, inner in _SELECTOR.findall(expression)]


def grouping_labels(expression: str) -> set[str]:
    """Return the labels by which an expression groups."""
    return {label.strip() for inner in _GROUPING.findall(expression) for label in inner.split(",")}


def foreign_words(expression: str) -> set[str]:
    """Return the names in an expression that are neither ours nor PromQL's own: series of somebody else, or slips."""
    plain = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", expression))
    return {
        word for word in _WORD.findall(plain) if word not in _KEYWORDS and not word.startswith(("receiver", "process_"))
    }


def exposed(texts: Iterable[str]) -> Exposed:
    """Read the texts of /metrics."""
    found: Exposed = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


def problems(expression: str, known: Exposed) -> list[str]:
    """Return what an expression names and no plane has: series, labels, and values where it asks for certain ones."""
    found: list[str] = []
    labels = set(FROM_SCRAPING)
    for selector in selectors(expression):
        samples = known.get(selector.name)
        if samples is None:
            found.append(f"no series {selector.name}")
            continue
        own = {label for sample in samples for label in sample}
        labels |= own
        for label, operator, value in selector.matchers:
            if label in FROM_SCRAPING:
                continue
            if label not in own:
                found.append(f"{selector.name} has no label {label}")
            elif operator != "!~":
                values = {sample[label] for sample in samples}
                wanted = value.split("|") if operator == "=~" else [re.escape(value)]
                found += [
                    f"{selector.name} has no {label} {each}"
                    for each in wanted
                    if not any(re.fullmatch(each, has) for has in values)
                ]
    return found + [f"nothing has the label {label}" for label in sorted(grouping_labels(expression) - labels)]
