"""Each alert fires on series made for it, and no other does; all are silent on what is harmless. promtool is the judge."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.monitoring import Tools
from tests.support import monitoring
from tests.support.planes import ROOT
from tests.support.promtool import (
    ACCEPTED,
    BROKEN,
    BUCKET,
    CLUSTER,
    CROWDED,
    DEAD,
    EVER,
    FORGED,
    GONE,
    IGNORED,
    JOURNAL,
    MINUTES,
    NAMESPACE,
    NEWEST,
    NO_ANSWER,
    OLDEST,
    SERVE,
    UNSTORED,
    WAITING,
    WORK,
    firing,
    promtool,
    run_rule_test,
    series,
)

pytestmark = pytest.mark.controlplane

DAYS = 3 * 24 * 60


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
    every: str = "1m"
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
    "one push meets a fault of ours": Case(
        "ReceiverDeliveriesFail", {BROKEN: "0+0x60 1+0x180"}, "61m", ("60m", "75m"), "1", one_replica=True
    ),
    "bodies give way": Case("ReceiverDeliveriesFail", {CROWDED: "0+0x60 3+0x180"}, "61m", ("60m", "75m"), "6"),
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
        "ReceiverNoDelivery", {NEWEST: f"0+0x{DAYS}"}, "67h5m", ("66h", "66h55m"), minutes=DAYS, every="5m"
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

    run_rule_test(monitoring_tools, tmp_path, test, every=case.every)


@pytest.mark.parametrize("case", HARMLESS.values(), ids=HARMLESS.keys())
def test_every_alert_is_silent_on_what_is_harmless(monitoring_tools: Tools, tmp_path: Path, case: Harmless) -> None:
    moments = [f"{minute}m" for minute in range(case.since, MINUTES + 1, 5)]
    test = {
        "input_series": series(case.changes, one_replica=case.one_replica, minutes=MINUTES),
        "promql_expr_test": [firing([], at=moment) for moment in moments],
    }

    run_rule_test(monitoring_tools, tmp_path, test)


def test_the_documented_patch_changes_how_long_it_may_be_quiet(
    control_plane: ControlPlane, monitoring_tools: Tools, tmp_path: Path
) -> None:
    (patch,) = re.findall(r"```yaml\n(patches:.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    resource = os.path.relpath(monitoring.FOLDER, overlay.resolve())
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [resource], **yaml.safe_load(patch)}))
    command = [str(control_plane.programs["kubectl"]), "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (rules,) = (found for found in yaml.safe_load_all(done.stdout) if found["kind"] == "PrometheusRule")

    case = CASES["nothing came since the first minute"]
    test = {
        "input_series": series(case.changes, one_replica=False, minutes=case.minutes),
        "promql_expr_test": [firing([], at=case.fires)],
    }

    run_rule_test(monitoring_tools, tmp_path, test, spec=rules["spec"], every=case.every)
