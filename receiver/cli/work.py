"""`receiver work`: the private plane, wired together. It loads nothing that knows a secret."""

from __future__ import annotations

import logging
import os
import signal
import threading

import click
from prometheus_client import CollectorRegistry

from receiver.cli.common import EXIT_FAILED, Context
from receiver.cli.database import open_journal
from receiver.cli.ports import open_private_port
from receiver.clients.cluster import Cluster
from receiver.errors import TamperedError
from receiver.journal.guard import check_objects, guard
from receiver.journal.jobs import Jobs
from receiver.journal.prune import Retention, prune
from receiver.journal.untrusted import LONGEST_PAYLOAD_BYTES
from receiver.journal.wake import open_alarm
from receiver.logs import set_up_logging
from receiver.work.metrics import JournalCollector, WorkMetrics
from receiver.work.worker import Parts, Worker

_log = logging.getLogger("receiver")
_SPARE_CONNECTIONS = 8
_GRACE_SECONDS = 0.5  # beyond work.shutdown_seconds


@click.command()
@click.pass_obj
def work(context: Context) -> None:
    """Create and follow PipelineRuns: the private plane. Holds the cluster token, never a webhook secret."""
    settings = context.settings
    set_up_logging(settings.log)
    engine = open_journal(context, durable=False)
    check_objects(engine)
    guard(engine)
    registry = CollectorRegistry()
    metrics = WorkMetrics(registry)
    connections = settings.work.concurrency + _SPARE_CONNECTIONS
    cluster = Cluster(context.cluster, folder=settings.folder, connections=connections, observe=metrics.called)
    kept = settings.journal
    retention = Retention(kept.keep_days, kept.keep_count, kept.replay_window_days)
    # Twice what is stored today, since yesterday it may have been more.
    longest = max(LONGEST_PAYLOAD_BYTES, 2 * kept.max_stored_body_bytes)
    jobs = Jobs(engine, longest_payload_bytes=longest)

    def forget(now: float) -> int:
        return prune(engine, retention, now=now)

    worker = Worker(Parts(settings.work, context.triggers, jobs, cluster, open_alarm(engine), metrics, forget))
    registry.register(JournalCollector(jobs, circuit_is_open=worker.circuit_is_open))
    private = open_private_port("work.listen", settings.work.listen, registry, worker.healthy)

    def give_up() -> None:
        # The loop itself waits for a journal that does not answer. Leases run out, and each step can be repeated.
        _log.warning("stopped while cluster or journal owed answers; the next worker asks again")
        logging.shutdown()
        os._exit(0)

    def stop(_number: int, _frame: object) -> None:
        # A second signal ends the process at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(1))
        worker.stop()
        latest = threading.Timer(settings.work.shutdown_seconds + _GRACE_SECONDS, give_up)
        latest.daemon = True
        latest.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _log.info("working", extra={"namespace": settings.cluster.namespace, "triggers": len(context.triggers)})
    try:
        finished = worker.run()
    except TamperedError as error:
        click.echo(f"receiver: {error}", err=True)
        logging.shutdown()
        # At once: what other threads have begun must not be finished over such a journal.
        os._exit(EXIT_FAILED)
    if private is not None:
        private.close()
    if not finished:
        # Python would wait for the threads that wait for the cluster.
        give_up()
    _log.info("stopped")
