"""k8s/monitoring, judged by promtool itself and, for its custom resources, by prometheus-operator's CRDs in a real API server.

Each alert fires on series made for it, and no other does; all are silent while everything is well.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.monitoring import Tools
from tests.controlplane.waiting import wait_until
from tests.support import monitoring
from tests.support.planes import ROOT

pytestmark = pytest.mark.controlplane

NAMESPACE = "striv-receiver"
MINUTES = 240
EVER = f"x{MINUTES}"
DAYS = 4 * 24 * 60

SERVE, WORK = 'receiver_build_info{plane="serve"}', 'receiver_build_info{plane="work"}'
DEAD, WAITING = 'receiver_jobs{state="dead"}', 'receiver_jobs{state="waiting"}'
OLDEST, NEWEST = "receiver_oldest_waiting_seconds", "receiver_last_delivery_timestamp_seconds"
JOURNAL, CLUSTER = "receiver_journal_up", "receiver_cluster_up"
ACCEPTED = 'receiver_deliveries_total{result="accepted",status="202",reason="accepted"}'
FORGED = 'receiver_deliveries_total{result="refused",status="401",reason="signature"}'
UNSTORED = 'receiver_deliveries_total{result="failed",status="503",reason="journal"}'
IGNORED = 'receiver_deliveries_total{result="ignored",status="200",reason="branch-filtered"}'
NO_ANSWER = 'receiver_api_calls_total{method="create_namespaced_custom_object",status="0"}'
BUCKET = 'receiver_acknowledgement_seconds_bucket{le="%s"}'

WELL: Mapping[str, str] = {
    SERVE: "1+0" + EVER,
    WORK: "1+0" + EVER,
    DEAD: "0+0" + EVER,
    WAITING: "3+0" + EVER,
    'receiver_jobs{state="started"}': "2+0" + EVER,
    'receiver_jobs{state="finished"}': "100+1" + EVER,
    OLDEST: "20+0" + EVER,
    NEWEST: "0+60" + EVER,
    JOURNAL: "1+0" + EVER,
    CLUSTER: "1+0" + EVER,
    ACCEPTED: "0+1" + EVER,
    IGNORED: "0+1" + EVER,
    FORGED: "0+0" + EVER,
    UNSTORED: "0+0" + EVER,
    # A run that exists already and one that is gone are no errors, however many there are.
    'receiver_api_calls_total{method="create_namespaced_custom_object",status="200"}': "0+1" + EVER,
    'receiver_api_calls_total{method="create_namespaced_custom_object",status="409"}': "0+1" + EVER,
    'receiver_api_calls_total{method="get_namespaced_custom_object",status="404"}': "0+1" + EVER,
    NO_ANSWER: "0+0" + EVER,
    BUCKET % "0.01": "0+1" + EVER,
    BUCKET % "5.0": "0+1" + EVER,
    BUCKET % "10.0": "0+1" + EVER,
    BUCKET % "+Inf": "0+1" + EVER,
}
"""Series of one replica, one value a minute, in promtool's notation."""

GONE = "_" + EVER
"""No sample at all."""


@dataclass(frozen=True)
class Case:
    """Series that differ from WELL, and when the alert fires; `value` is what its description says of them."""

    alert: str
    changes: Mapping[str, str]
    fires: str
    silent: tuple[str, ...]
    value: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: {"namespace": NAMESPACE})
    minutes: int = MINUTES
    one_replica: bool = False
    """Whether the second replica stays well."""


CASES = {
    "serve went away": Case("ReceiverServeDown", {SERVE: "1+0x60 stale"}, "63m", ("60m", "62m")),
    "serve was never scraped": Case("ReceiverServeDown", {SERVE: GONE}, "2m", ("1m",), labels={"plane": "serve"}),
    "work went away": Case("ReceiverWorkDown", {WORK: "1+0x60 stale"}, "63m", ("60m", "62m")),
    "work was never scraped": Case("ReceiverWorkDown", {WORK: GONE}, "2m", ("1m",), labels={"plane": "work"}),
    "a job died and was revived": Case("ReceiverJobsDead", {DEAD: "0+0x60 2+0x60 0+0x60"}, "61m", ("60m", "130m"), "2"),
    "a job waits": Case("ReceiverJobsWait", {OLDEST: "0+60" + EVER}, "6m", ("5m",), "6m 0s"),
    "a worker finds the cluster away": Case(
        "ReceiverClusterAway", {CLUSTER: "1+0x60 0+0x60 1+0x60"}, "63m", ("62m", "125m"), one_replica=True
    ),
    "every second call fails": Case("ReceiverApiErrors", {NO_ANSWER: "0+0x60 3+3x180"}, "90m", ("60m", "64m"), "50%"),
    "one push is not stored": Case(
        "ReceiverJournalRefusesWrites", {UNSTORED: "0+0x60 1+0x180"}, "61m", ("60m", "75m"), "1", one_replica=True
    ),
    "the journal is away, and with it what is known of jobs": Case(
        "ReceiverJournalUnreadable",
        {
            JOURNAL: "1+0x60 0+0x180",
            DEAD: "0+0x60 stale",
            WAITING: "3+0x60 stale",
            OLDEST: "9+0x60 stale",
            NEWEST: GONE,
        },
        "63m",
        ("62m",),
    ),
    "forged requests begin": Case(
        "ReceiverSignaturesRejected", {FORGED: "0+0x120 0+10x120"}, "140m", ("120m", "240m"), "300"
    ),
    "no secret fits": Case(
        "ReceiverNoSignatureFits",
        {ACCEPTED: "5+0" + EVER, IGNORED: "5+0" + EVER, FORGED: "0+0x60 1 1 2 2 3 3+0x180"},
        "80m",
        ("60m", "65m", "200m"),
        "6",
    ),
    "answers take six seconds": Case(
        "ReceiverAcknowledgesSlowly",
        {BUCKET % "0.01": "0+0" + EVER, BUCKET % "5.0": "0+0" + EVER},
        "20m",
        ("5m",),
        "9.95s",
    ),
    "answers take longer than the last bucket": Case(
        "ReceiverAcknowledgesSlowly",
        {BUCKET % le: "0+0" + EVER for le in ("0.01", "5.0", "10.0")},
        "20m",
        ("5m",),
        "10s",
    ),
    "nothing came since the first minute": Case(
        "ReceiverNoDelivery", {NEWEST: f"0+0x{DAYS}"}, "67h2m", ("66h", "66h58m"), minutes=DAYS
    ),
    "nothing has ever come": Case("ReceiverNoDelivery", {NEWEST: GONE}, "61m", ("59m",)),
}


@dataclass(frozen=True)
class Harmless:
    """Series that differ from WELL and alarm nobody, from this minute on."""

    changes: Mapping[str, str]
    since: int = 0
    one_replica: bool = False


HARMLESS = {
    "all is well": Harmless({}),
    "one of two replicas is away": Harmless({SERVE: "1+0x60 stale", WORK: "1+0x60 stale"}, one_replica=True),
    "one call in sixteen fails": Harmless({NO_ANSWER: "0+0.2" + EVER}),
    # In the first hour nobody knows what is usual.
    "forged requests come as ever": Harmless({FORGED: "0+10" + EVER}, since=80),
    "forged requests become twice as many": Harmless({FORGED: "0+10x120 1200+20x120"}, since=80),
    "a few forged requests": Harmless({FORGED: "0+0x60 1+1x6 7+0x180"}),
    "two wrong signatures, and nothing else comes": Harmless(
        {ACCEPTED: "5+0" + EVER, IGNORED: "5+0" + EVER, FORGED: "0+0x60 1+0x180"}
    ),
    "nobody pushes": Harmless({ACCEPTED: "5+0" + EVER, IGNORED: "5+0" + EVER}),
    "one answer in a thousand is slow": Harmless(
        {BUCKET % "0.01": "0+999" + EVER, BUCKET % "5.0": "0+999" + EVER}
        | {BUCKET % le: "0+1000" + EVER for le in ("10.0", "+Inf")}
    ),
}


def series(changes: Mapping[str, str], *, one_replica: bool, minutes: int) -> list[dict[str, str]]:
    """Return WELL with changes as Prometheus has it of two replicas."""
    found = []
    for pod in ("receiver-1", "receiver-2"):
        changed = {} if one_replica and pod == "receiver-2" else changes
        for name, values in {**WELL, **changed}.items():
            metric, _, labels = name.partition("{")
            port = 9001 if name == SERVE else 9000
            scraped = f'namespace="{NAMESPACE}",instance="{pod}:{port}"'
            inner = ",".join(filter(None, [labels.removesuffix("}"), scraped]))
            found.append({"series": f"{metric}{{{inner}}}", "values": values.replace(EVER, f"x{minutes}")})
    return found


def firing(alerts: list[str], *, at: str) -> dict[str, Any]:
    """Ask which alerts fire, whatever their labels."""
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts]
    return {"expr": 'group by (alertname) (ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": expected}


def promtool(tools: Tools, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tools.promtool, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def run_rule_test(tools: Tools, folder: Path, test: dict[str, Any], *, spec: dict[str, Any] | None = None) -> None:
    """Run one test group of `promtool test rules`; its own words are the failure's."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(spec or monitoring.rule_groups()))
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [{"interval": "1m", **test}]}
    (folder / "test.yaml").write_text(yaml.safe_dump(whole))
    done = promtool(tools, "test", "rules", str(folder / "test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def as_said(alert: str, case: Case) -> dict[str, str]:
    """Return the annotations of an alert as they are for this case."""
    annotations: dict[str, str] = monitoring.alerts()[alert]["annotations"]
    where = f" in {case.labels['namespace']}" if "namespace" in case.labels else ""
    text = re.sub(
        r"\{\{ with \$labels\.namespace \}\} in\s\{\{ \. \}\}\{\{ end \}\}", where, annotations["description"]
    )
    return {**annotations, "description": re.sub(r"\{\{[^}]*\$value[^}]*\}\}", case.value, text)}


# ---------------------------------------------------------------- rules
def test_promtool_finds_no_fault_with_the_rules(monitoring_tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(monitoring.rule_groups()))

    done = promtool(monitoring_tools, "check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(monitoring.rules())} rules found" in done.stdout


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES.values()} == set(monitoring.alerts())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_alert_fires_in_its_case_and_no_other_does(monitoring_tools: Tools, tmp_path: Path, case: Case) -> None:
    rule = monitoring.alerts()[case.alert]
    alert = {
        "eval_time": case.fires,
        "alertname": case.alert,
        "exp_alerts": [
            {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": as_said(case.alert, case)},
        ],
    }
    test = {
        "input_series": series(case.changes, one_replica=case.one_replica, minutes=case.minutes),
        "alert_rule_test": [alert],
        "promql_expr_test": [firing([case.alert], at=case.fires), *(firing([], at=at) for at in case.silent)],
    }

    run_rule_test(monitoring_tools, tmp_path, test)


@pytest.mark.parametrize("case", HARMLESS.values(), ids=HARMLESS.keys())
def test_every_alert_is_silent_on_what_is_harmless(monitoring_tools: Tools, tmp_path: Path, case: Harmless) -> None:
    moments = [f"{minute}m" for minute in range(case.since, MINUTES + 1, 5)]
    test = {
        "input_series": series(case.changes, one_replica=case.one_replica, minutes=MINUTES),
        "promql_expr_test": [firing([], at=moment) for moment in moments],
    }

    run_rule_test(monitoring_tools, tmp_path, test)


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
def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the administrator of the control plane."""
    return subprocess.run(
        [plane.programs["kubectl"], *arguments],
        env={**os.environ, **plane.environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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


def test_the_documented_patch_changes_how_long_it_may_be_quiet(
    control_plane: ControlPlane, monitoring_tools: Tools, tmp_path: Path
) -> None:
    (patch,) = re.findall(r"```yaml\n(patches:.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    resource = os.path.relpath(monitoring.FOLDER, overlay.resolve())
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [resource], **yaml.safe_load(patch)}))
    done = kubectl(control_plane, "kustomize", str(overlay))
    assert done.returncode == 0, done.stderr
    (rules,) = (found for found in yaml.safe_load_all(done.stdout) if found["kind"] == "PrometheusRule")

    case = CASES["nothing came since the first minute"]
    silent = [firing([], at=at) for at in (*case.silent, case.fires, "95h")]
    test = {
        "input_series": series(case.changes, one_replica=False, minutes=case.minutes),
        "promql_expr_test": silent,
    }

    run_rule_test(monitoring_tools, tmp_path, test, spec=rules["spec"])
