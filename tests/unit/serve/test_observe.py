"""What the public plane tells the outside about its decisions."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry

from receiver.serve.observe import Observer


def test_each_decision_is_one_line_and_one_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    registry = CollectorRegistry()
    observer = Observer(registry)
    observer.decided(202, "accepted", {"delivery": "72d3"})
    observer.decided(503, "journal", {})
    assert [(record.levelno, record.__dict__["status"]) for record in caplog.records] == [
        (logging.INFO, 202),
        (logging.ERROR, 503),
    ]
    labels = {"result": "accepted", "status": "202", "reason": "accepted"}
    assert registry.get_sample_value("receiver_deliveries_total", labels) == 1


def test_a_flood_of_refusals_is_one_line_a_second_and_counted_to_the_last(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    registry = CollectorRegistry()
    observer = Observer(registry, clock=lambda: now[0])
    for _ in range(500):
        observer.refused(401, "signature")
    now[0] += 1.0
    observer.refused(401, "signature")
    assert [record.__dict__["count"] for record in caplog.records] == [1, 500]
    labels = {"result": "refused", "status": "401", "reason": "signature"}
    assert registry.get_sample_value("receiver_deliveries_total", labels) == 501


@pytest.mark.parametrize(
    ("status", "reason", "result"),
    [
        (202, "accepted", "accepted"),
        (202, "duplicate", "duplicate"),
        (200, "duplicate", "duplicate"),
        (200, "branch-filtered", "ignored"),
        (400, "param", "refused"),
        (401, "signature", "refused"),
        (503, "journal", "failed"),
    ],
)
def test_a_delivery_is_counted_under_one_of_five_results(status: int, reason: str, result: str) -> None:
    registry = CollectorRegistry()
    Observer(registry).decided(status, reason, {})
    labels = {"result": result, "status": str(status), "reason": reason}
    assert registry.get_sample_value("receiver_deliveries_total", labels) == 1


@pytest.mark.parametrize(("status", "reason"), [("401", "signature"), ("503", "journal")])
def test_what_alerts_wait_for_is_there_before_it_happens(status: str, reason: str) -> None:
    registry = CollectorRegistry()
    Observer(registry)
    samples = {
        (sample.labels["status"], sample.labels["reason"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "receiver_deliveries_total"
    }
    assert samples[status, reason] == 0
