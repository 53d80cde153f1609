"""What can be said of k8s/monitoring without promtool and without a cluster."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml

from tests.support import monitoring
from tests.support.planes import ROOT

BASE = ROOT / "k8s" / "base"
ALERTS = monitoring.alerts()
EXPRESSIONS = [
    *[(rule.get("alert") or rule["record"], rule["expr"]) for rule in monitoring.rules()],
    *monitoring.panel_expressions().items(),
]
KNOWN: monitoring.Exposed = {
    "receiver_jobs": [{"state": "dead"}, {"state": "waiting"}],
    "receiver_deliveries_total": [{"status": "202", "reason": "accepted"}],
    "receiver_cluster_up": [{}],
}


def read(name: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all((BASE / name).read_text()) if found]


def heading_anchors(document: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / document).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------- alerts
@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS.keys())
def test_every_alert_says_how_bad_it_is_what_it_means_and_which_page_to_follow(alert: dict[str, Any]) -> None:
    annotations = alert["annotations"]
    document, _, anchor = annotations["runbook"].partition("#")

    assert alert["labels"]["severity"] in ("warning", "critical")
    assert set(annotations) == {"summary", "description", "runbook"}
    assert document == "docs/operations.md"
    assert anchor in heading_anchors(document)
    assert "  " not in annotations["description"]


def test_the_expressions_of_every_alert_keep_the_namespace() -> None:
    # Two receivers under one Prometheus are two alerts.
    for alert in ALERTS.values():
        assert "namespace" in monitoring.grouping_labels(alert["expr"])


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_expressions_name_series_of_the_receiver_alone(name: str, expression: str) -> None:
    assert monitoring.foreign_words(expression) == set(), name


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("receiver_jbos", "no series receiver_jbos"),
        ('receiver_jobs{stat="dead"}', "receiver_jobs has no label stat"),
        ('receiver_jobs{state="daed"}', "receiver_jobs has no state daed"),
        ('receiver_jobs{state=~"dead|lost"}', "receiver_jobs has no state lost"),
        ("sum by (state) (receiver_cluster_up)", "nothing has the label state"),
    ],
)
def test_a_series_label_or_value_that_nobody_exposes_is_found(expression: str, problem: str) -> None:
    assert monitoring.problems(expression, KNOWN) == [problem]


def test_what_is_exposed_is_no_problem() -> None:
    expression = (
        'max by (namespace, state) (receiver_jobs{state=~"dead|wait.*"}) or receiver_deliveries_total{status!~"5.."}'
    )
    assert monitoring.problems(expression, KNOWN) == []


# ---------------------------------------------------------------- the dashboard
def test_the_panels_have_ids_of_their_own_and_lie_beside_each_other() -> None:
    everything = monitoring.dashboard()["panels"]
    ids = [panel["id"] for panel in everything]
    places = [panel["gridPos"] for panel in everything]

    assert len(set(ids)) == len(ids)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.parametrize("panel", monitoring.panels(), ids=lambda panel: panel["title"])
def test_every_panel_explains_itself_has_a_unit_and_asks_the_chosen_source_for_the_chosen_namespace(
    panel: dict[str, Any],
) -> None:
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in ("s", "short", "reqps", "bytes")
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for asked in (panel, *panel["targets"]):
        assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        selectors = monitoring.selectors(target["expr"])
        assert selectors
        for selector in selectors:
            assert ("namespace", "=", "$namespace") in selector.matchers


def test_the_dashboard_lets_choose_source_and_namespace_and_uses_no_other_variable() -> None:
    board = monitoring.dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    used = {
        name for panel in monitoring.panels() for t in panel["targets"] for name in re.findall(r"\$(\w+)", t["expr"])
    }

    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["namespace"]["definition"] == variables["namespace"]["query"]["query"]
    assert used == {"namespace", "__rate_interval"}
    assert set(variables) == {"datasource", "namespace"}


# ---------------------------------------------------------------- how the scraper gets there
def test_the_monitor_scrapes_every_metrics_port_of_the_pod_and_the_network_policy_lets_it() -> None:
    monitor = yaml.safe_load((monitoring.FOLDER / "podmonitor.yaml").read_text())["spec"]
    kustomization = yaml.safe_load((monitoring.FOLDER / "kustomization.yaml").read_text())
    deployment = read("deployment.yaml")[0]
    pod = deployment["spec"]["template"]
    policy = next(p for p in read("networkpolicies.yaml") if p["metadata"]["name"] == "monitoring-to-receiver")["spec"]
    ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]} - {"http"}
    (ingress,) = policy["ingress"]

    assert (
        {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} == ports == {"metrics-serve", "metrics-work"}
    )
    assert {port["port"] for port in ingress["ports"]} == ports
    assert monitor["namespaceSelector"]["matchNames"] == [deployment["metadata"]["namespace"]]
    for selector in (monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    allowed = ingress["from"][0]["namespaceSelector"]["matchLabels"]
    assert allowed == {"kubernetes.io/metadata.name": kustomization["namespace"]}


def test_grafanas_sidecar_finds_the_dashboard_by_its_label() -> None:
    kustomization = yaml.safe_load((monitoring.FOLDER / "kustomization.yaml").read_text())

    assert [generator["files"] for generator in kustomization["configMapGenerator"]] == [["striv-receiver.json"]]
    assert kustomization["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
