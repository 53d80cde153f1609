"""promtool, and the series of a receiver that is well, in promtool's notation."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.monitoring import Tools
from tests.support import monitoring

NAMESPACE = "striv-receiver"
MINUTES = 240
EVER = f"x{MINUTES}"

SERVE, WORK = 'receiver_build_info{plane="serve"}', 'receiver_build_info{plane="work"}'
DEAD, WAITING = 'receiver_jobs{state="dead"}', 'receiver_jobs{state="waiting"}'
OLDEST, NEWEST = "receiver_oldest_waiting_seconds", "receiver_last_delivery_timestamp_seconds"
JOURNAL, CLUSTER = "receiver_journal_up", "receiver_cluster_up"
ACCEPTED = 'receiver_deliveries_total{result="accepted",status="202",reason="accepted"}'
FORGED = 'receiver_deliveries_total{result="refused",status="401",reason="signature"}'
UNSTORED = 'receiver_deliveries_total{result="failed",status="503",reason="journal"}'
BROKEN = 'receiver_deliveries_total{result="failed",status="500",reason="internal"}'
CROWDED = 'receiver_deliveries_total{result="failed",status="503",reason="crowded"}'
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
    BROKEN: "0+0" + EVER,
    CROWDED: "0+0" + EVER,
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


def run_rule_test(
    tools: Tools, folder: Path, test: dict[str, Any], *, spec: dict[str, Any] | None = None, every: str = "1m"
) -> None:
    """Run one test group of `promtool test rules`; its own words are the failure's."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(spec or monitoring.rule_groups()))
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": [{"interval": "1m", **test}]}
    (folder / "test.yaml").write_text(yaml.safe_dump(whole))
    done = promtool(tools, "test", "rules", str(folder / "test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
