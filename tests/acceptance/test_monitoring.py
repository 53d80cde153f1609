"""What both planes really expose: the alerts, the dashboard and the documentation name it, and nothing else."""

from __future__ import annotations

import re
import subprocess

import pytest
import requests
import yaml

from tests.controlplane.monitoring import Tools
from tests.support import monitoring
from tests.support.planes import ROOT, Planes
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.controlplane, pytest.mark.acceptance]


def test_alerts_dashboard_and_documentation_name_what_the_planes_expose(
    planes: Planes, monitoring_tools: Tools
) -> None:
    planes.start()
    assert planes.push(encoded(seeded_push()), new_guid()).status_code == 202
    assert planes.push(encoded(seeded_push()), new_guid(), event="ping").status_code == 200
    assert requests.post(planes.url, data=b"{}", timeout=10).status_code == 401
    serve = yaml.safe_load((planes.folder / "receiver.yaml").read_text())["serve"]["metrics_listen"]

    def texts() -> list[str] | None:
        found = [
            requests.get(f"http://{address}/metrics", timeout=10).text
            for address in (serve, f"127.0.0.1:{planes.private_port}")
        ]
        # Known from the first call and the first delivery on.
        return found if "receiver_api_calls_total{" in found[1] and "receiver_last_delivery" in found[1] else None

    both = wait_until(texts, what="the run to be created and the delivery to be seen")
    known = monitoring.exposed(both)

    expressions = {rule.get("alert") or rule["record"]: rule["expr"] for rule in monitoring.rules()}
    recorded: monitoring.Exposed = {rule["record"]: [{}] for rule in monitoring.rules() if "record" in rule}
    for name, expression in (expressions | monitoring.panel_expressions()).items():
        assert monitoring.problems(expression, {**known, **recorded}) == [], name

    # Every family of ours is in the table of docs/operations.md with its labels, and on the dashboard.
    table = re.findall(r"^\| (both|serve|work) \| (`receiver_[^|]*) \|([^|]*)\|", OPERATIONS, re.MULTILINE)
    documented = {
        name: set(re.findall(r"`(\w+)`", labels))
        for _, names, labels in table
        for name in re.findall(r"`(\w+)`", names)
    }
    ours = {
        name: {label for sample in samples for label in sample} - {"le"}
        for name, samples in ((re.sub(r"_(bucket|count|sum|created)$", "", name), s) for name, s in known.items())
        if name.startswith("receiver_") and (name + "_total") not in known
    }
    assert documented == ours
    shown = {
        s.name.removesuffix("_bucket") for e in monitoring.panel_expressions().values() for s in monitoring.selectors(e)
    }
    assert shown - {"process_resident_memory_bytes"} == set(ours)

    for text in both:
        lint = subprocess.run(
            [monitoring_tools.promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert lint.returncode == 0, lint.stderr


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
