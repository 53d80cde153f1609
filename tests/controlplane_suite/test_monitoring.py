"""The dashboard, judged by promtool, and the custom resources, by prometheus-operator's CRDs in a real API server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.monitoring import Tools
from tests.controlplane_suite.deployed import kubectl, path_with_kubectl
from tests.support import monitoring
from tests.support.documents import ROOT, snippets
from tests.support.guide import run, step
from tests.support.promtool import EVER, MINUTES, NO_ANSWER, promtool, run_rule_test, series
from tests.support.waiting import wait_until

pytestmark = pytest.mark.controlplane

OPERATIONS = ROOT / "docs" / "operations.md"


# ---------------------------------------------------------------- the dashboard
def test_every_expression_of_the_dashboard_is_promql(monitoring_tools: Tools, tmp_path: Path) -> None:
    asked = monitoring.panel_expressions()
    names = {f"panel:{number}": title for number, title in enumerate(asked)}
    recorded = [{"record": name, "expr": asked[title]} for name, title in names.items()]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

    done = promtool(monitoring_tools, "check", "rules", str(tmp_path / "panels.yaml"))

    assert done.returncode == 0, f"{done.stderr}{names}"
    assert f"{len(asked)} rules found" in done.stdout


def test_every_panel_shows_something_while_all_is_well(monitoring_tools: Tools, tmp_path: Path) -> None:
    """An expression that matches nothing would be an empty panel for ever."""
    shown = {
        "receiver_push_to_run_seconds_bucket": '{le="+Inf"}',
        "receiver_runs_ended_total": '{result="succeeded"}',
        "process_resident_memory_bytes": "",
    }
    extra = {name + labels: "0+1" + EVER for name, labels in shown.items()}
    test = {
        "input_series": series({**extra, NO_ANSWER: "0+1" + EVER}, one_replica=False, minutes=MINUTES),
        "promql_expr_test": [
            {
                "expr": f"group({expression.replace('[1m]', '[5m]')})",
                "eval_time": "60m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for expression in monitoring.panel_expressions().values()
        ],
    }

    run_rule_test(monitoring_tools, tmp_path, test)


# ---------------------------------------------------------------- the objects


@pytest.fixture(scope="module")
def with_crds(control_plane: ControlPlane, monitoring_tools: Tools) -> Iterator[ControlPlane]:
    """The control plane with the operator's CRDs, though not with the operator, and the namespace of Prometheus."""
    crds = ("apply", "--server-side", "-f", str(monitoring_tools.crds))
    made = kubectl(control_plane, *crds)
    assert made.returncode == 0, made.stderr
    ready = kubectl(
        control_plane, "wait", "--for=condition=Established", "--timeout=60s", "-f", str(monitoring_tools.crds)
    )
    assert ready.returncode == 0, ready.stderr
    namespace = kubectl(control_plane, "create", "namespace", "monitoring")
    assert namespace.returncode == 0, namespace.stderr
    # kubectl learns of new kinds a moment after they were established.
    wait_until(
        lambda: kubectl(control_plane, "get", "podmonitors,prometheusrules", "-A").returncode == 0, what="the new kinds"
    )
    yield control_plane
    kubectl(control_plane, "delete", "--wait=false", "namespace", "monitoring")
    kubectl(control_plane, "delete", "--wait=false", "-f", str(monitoring_tools.crds))


def apply_dry(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return kubectl(plane, "apply", "--server-side", "--dry-run=server", "--validate=strict", *arguments, stdin=stdin)


def test_the_api_server_accepts_all_of_it_strictly_and_without_a_warning(with_crds: ControlPlane) -> None:
    done = apply_dry(with_crds, "-k", str(monitoring.FOLDER))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {line.split()[0].partition("/")[0] for line in done.stdout.splitlines()} == {
        "configmap",
        "podmonitor.monitoring.coreos.com",
        "prometheusrule.monitoring.coreos.com",
    }


def test_the_documents_tell_how_to_install_all_of_it_and_how_to_remove_it(with_crds: ControlPlane) -> None:
    (install,) = [code for code in snippets(OPERATIONS) if code.startswith("kubectl ") and "k8s/monitoring" in code]
    environment = {**with_crds.environment, "PATH": path_with_kubectl(with_crds)}

    def ours() -> list[str]:
        kinds = "podmonitors,prometheusrules,configmaps"
        done = kubectl(with_crds, "get", kinds, "-n", "monitoring", "-l", "release", "-o", "name")
        assert done.returncode == 0, done.stderr
        return [name.partition("/")[0] for name in done.stdout.split()]

    run(install, folder=ROOT, environment=environment)
    assert sorted(ours()) == [
        "configmap",
        "podmonitor.monitoring.coreos.com",
        "prometheusrule.monitoring.coreos.com",
    ]
    run(step("Remove", 1), folder=ROOT, environment=environment)
    assert ours() == []


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [("podmonitor.yaml", "interval: 15s", "intervall: 15s"), ("rules.yaml", "for: 2m", "until: 2m")],
)
def test_a_slip_in_a_field_would_be_refused(with_crds: ControlPlane, file: str, right: str, wrong: str) -> None:
    text = (monitoring.FOLDER / file).read_text()
    assert right in text

    done = apply_dry(with_crds, "-n", "monitoring", "-f", "-", stdin=text.replace(right, wrong))

    assert done.returncode != 0
    assert "field not declared in schema" in done.stderr


def test_the_objects_carry_the_labels_by_which_they_are_found(control_plane: ControlPlane) -> None:
    done = kubectl(control_plane, "kustomize", str(monitoring.FOLDER))
    objects = {found["kind"]: found["metadata"] for found in yaml.safe_load_all(done.stdout)}

    assert set(objects) == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    assert {metadata["namespace"] for metadata in objects.values()} == {"monitoring"}
    assert {metadata["labels"]["release"] for metadata in objects.values()} == {"kube-prometheus-stack"}
    assert objects["ConfigMap"]["labels"]["grafana_dashboard"] == "1"
