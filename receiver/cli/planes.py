"""`receiver serve`, `receiver work` and `receiver run`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import click
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector

from receiver.cli.common import EXIT_FAILED, Context, split_address
from receiver.clients.cluster import Cluster
from receiver.errors import SettingsError
from receiver.journal.engine import journal_url, open_engine
from receiver.journal.guard import guard
from receiver.journal.intake import Intake
from receiver.journal.jobs import Jobs
from receiver.journal.migrate import migrate
from receiver.journal.prune import Retention, prune
from receiver.journal.untrusted import LONGEST_PAYLOAD_BYTES
from receiver.journal.wake import open_alarm, open_waker
from receiver.journal.writer import BatchWriter, LoopCompletions
from receiver.logs import set_up_logging
from receiver.private import PrivatePort
from receiver.serve.admission import Admission
from receiver.serve.app import Plane, create_app
from receiver.serve.gate import Gate
from receiver.serve.observe import Observer
from receiver.serve.secrets import SecretFiles
from receiver.serve.server import Front
from receiver.serve.server import serve as serve_front
from receiver.serve.steps import defer
from receiver.work.metrics import JournalCollector, WorkMetrics
from receiver.work.worker import Parts, Worker

_log = logging.getLogger("receiver")
_SPARE_CONNECTIONS = 8


@click.command()
@click.pass_obj
def serve(context: Context) -> None:
    """Receive deliveries: the public plane. Holds the webhook secrets, never a cluster token."""
    settings = context.settings
    set_up_logging(settings.log)
    uvloop.run(_serve(context))


async def _serve(context: Context) -> None:
    settings = context.settings
    secrets = SecretFiles(settings, clock=time.monotonic)
    gate = Gate(secrets, max_body_bytes=settings.serve.max_body_bytes)
    engine = context.open_journal()
    waker = open_waker(engine)
    intake = Intake(engine, woken=waker.wake)
    writer = BatchWriter(intake.take, completions=LoopCompletions(asyncio.get_running_loop()))
    admission = Admission(context.triggers, settings.journal.replay_window_days, settings.journal.max_stored_body_bytes)
    registry = CollectorRegistry()
    observer = Observer(registry)
    app = create_app(Plane(gate, admission, writer, observer, run=defer), path=settings.serve.path)
    front = Front(
        gate,
        app.wsgi_app,
        observer,
        path=settings.serve.path,
        body_timeout_seconds=settings.serve.body_timeout_seconds,
    )
    private = _private_port("serve.metrics_listen", settings.serve.metrics_listen, registry, lambda: True)
    host, port = split_address(settings.serve.listen)

    def ready() -> None:
        _log.info(
            "serving",
            extra={"listen": settings.serve.listen, "path": settings.serve.path, "triggers": len(context.triggers)},
        )

    await serve_front(front, host=host, port=port, shutdown_seconds=settings.serve.shutdown_seconds, ready=ready)
    await asyncio.to_thread(writer.close)
    waker.close()
    if private is not None:
        private.close()
    _log.info("stopped")


@click.command()
@click.pass_obj
def work(context: Context) -> None:
    """Create and follow PipelineRuns: the private plane. Holds the cluster token, never a webhook secret."""
    settings = context.settings
    set_up_logging(settings.log)
    engine = context.open_journal(durable=False)
    guard(engine)
    registry = CollectorRegistry()
    metrics = WorkMetrics(registry)
    connections = settings.work.concurrency + _SPARE_CONNECTIONS
    cluster = Cluster(settings.cluster, folder=settings.folder, connections=connections, observe=metrics.called)
    kept = settings.journal
    retention = Retention(kept.keep_days, kept.keep_count, kept.replay_window_days)
    # Twice what is stored today, since yesterday it may have been more.
    longest = max(LONGEST_PAYLOAD_BYTES, 2 * kept.max_stored_body_bytes)
    jobs = Jobs(engine, longest_payload_bytes=longest)

    def forget(now: float) -> int:
        return prune(engine, retention, now=now)

    worker = Worker(Parts(settings.work, context.triggers, jobs, cluster, open_alarm(engine), metrics, forget))
    registry.register(JournalCollector(jobs, circuit_is_open=worker.circuit_is_open))
    private = _private_port("work.listen", settings.work.listen, registry, worker.healthy)

    def stop(_number: int, _frame: object) -> None:
        # A second signal ends the process at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(1))
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _log.info("working", extra={"namespace": settings.cluster.namespace, "triggers": len(context.triggers)})
    finished = worker.run()
    if private is not None:
        private.close()
    if not finished:
        _log.warning("stopped while the cluster owed answers; the next worker asks again")
        # Python would wait for the threads that wait for the cluster.
        os._exit(0)
    _log.info("stopped")


def _private_port(
    setting: str, listen: str | None, registry: CollectorRegistry, healthy: Callable[[], bool]
) -> PrivatePort | None:
    if listen is None:
        return None
    host, port = split_address(listen)
    ProcessCollector(registry=registry)
    try:
        private = PrivatePort(host, port, registry=registry, healthy=healthy)
    except OSError as error:
        raise SettingsError(f"{setting}: cannot listen on {listen} ({error.strerror}); choose another port") from error
    private.start()
    return private


@click.command()
@click.pass_obj
def run(context: Context) -> None:
    """Run both planes, as two processes, for a laptop; creates the journal when there is none.

    Ctrl-C, or SIGTERM, stops both. When one of them ends, the other is stopped too.
    """
    file = context.journal_file()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    migrate(open_engine(journal_url(context.settings.journal.url)), now=time.time())
    command = [sys.executable, "-m", "receiver", "--config", str(context.config)]
    children = [subprocess.Popen([*command, plane], start_new_session=True) for plane in ("serve", "work")]

    def forward(number: int, _frame: object) -> None:
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    for child in children:
        if child.poll() is None:
            child.terminate()
    codes = [child.wait() for child in children]
    if any(codes):
        sys.exit(EXIT_FAILED)
