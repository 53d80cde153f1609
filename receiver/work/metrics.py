"""What the private plane counts, and what it reads from the journal when it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from receiver import __version__
from receiver.core.outcomes import DELETED, FAILED, SUCCEEDED
from receiver.errors import JournalError
from receiver.journal.jobs import Jobs

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0)


class WorkMetrics:
    """Calls to the API server, and how long a push waited for its run."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "receiver_api_calls_total",
            "Calls to the Kubernetes API by method and status (0: no answer).",
            ["method", "status"],
            registry=registry,
        )
        self._waits = Histogram(
            "receiver_push_to_run_seconds",
            "From the delivery of a push to the creation of its run.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._ended = Counter("receiver_runs_ended_total", "Runs that ended, by result.", ["result"], registry=registry)
        for result in (SUCCEEDED, FAILED, DELETED):
            # From 0 on: Prometheus sees no increase in a series that begins with its first event.
            self._ended.labels(result)

    def called(self, method: str, status: int) -> None:
        """Count a call."""
        self._calls.labels(method, str(status)).inc()

    def started(self, seconds: float) -> None:
        """Count a run that was created this long after its push came in."""
        self._waits.observe(seconds)

    def ended(self, result: str) -> None:
        """Count a run that ended."""
        self._ended.labels(result).inc()


class JournalCollector(Collector):
    """Reads the state of the jobs from the journal at each scrape, so that a restart forgets nothing."""

    def __init__(
        self, jobs: Jobs, *, circuit_is_open: Callable[[], bool], clock: Callable[[], float] = time.time
    ) -> None:
        self._jobs = jobs
        self._circuit_is_open = circuit_is_open
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; a journal that does not answer shows as receiver_journal_up 0."""
        info = GaugeMetricFamily("receiver_build_info", "The version that runs.", labels=["version", "plane"])
        info.add_metric([__version__, "work"], 1)
        yield info
        yield GaugeMetricFamily(
            "receiver_cluster_up",
            "Whether the cluster answers, by the last attempt.",
            value=0 if self._circuit_is_open() else 1,
        )
        try:
            states, oldest, newest = self._jobs.summary()
        except JournalError:
            yield GaugeMetricFamily("receiver_journal_up", "Whether the journal answers.", value=0)
            return
        yield GaugeMetricFamily("receiver_journal_up", "Whether the journal answers.", value=1)
        jobs = GaugeMetricFamily("receiver_jobs", "Jobs in the journal by state.", labels=["state"])
        for state, count in states.items():
            jobs.add_metric([state], count)
        yield jobs
        age = 0.0 if oldest is None else max(0.0, self._clock() - oldest)
        yield GaugeMetricFamily(
            "receiver_oldest_waiting_seconds", "How long the oldest waiting job has waited.", value=age
        )
        if newest is not None:
            yield GaugeMetricFamily(
                "receiver_last_delivery_timestamp_seconds", "When the last delivery came in.", value=newest
            )
