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
    observer.decided(202, "matched", {"delivery": "72d3"})
    observer.decided(503, "journal", {})
    assert [(record.levelno, record.__dict__["status"]) for record in caplog.records] == [
        (logging.INFO, 202),
        (logging.ERROR, 503),
    ]
    labels = {"status": "202", "reason": "matched"}
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
    labels = {"status": "401", "reason": "signature"}
    assert registry.get_sample_value("receiver_deliveries_total", labels) == 501
