"""`receiver serve`: the public plane, wired together. It loads nothing that knows a cluster."""

from __future__ import annotations

import asyncio
import logging
import time

import click
import uvloop
from prometheus_client import CollectorRegistry

from receiver.cli.common import Context
from receiver.cli.database import open_journal
from receiver.cli.ports import free_address, open_private_port
from receiver.journal.engine import BUSY_TIMEOUT_SECONDS
from receiver.journal.intake import Intake
from receiver.journal.probe import with_probes
from receiver.journal.wake import open_waker
from receiver.journal.writer import BatchWriter, LoopCompletions
from receiver.logs import set_up_logging
from receiver.serve.admission import Admission
from receiver.serve.app import Plane, create_app
from receiver.serve.gate import Gate
from receiver.serve.health import Health
from receiver.serve.observe import Observer
from receiver.serve.secrets import SecretFiles
from receiver.serve.server import Front
from receiver.serve.server import serve as serve_front
from receiver.serve.webhook import Webhook

_log = logging.getLogger("receiver")
_LAST_WRITE_SECONDS = BUSY_TIMEOUT_SECONDS + 0.25
_GRACE_SECONDS = 0.5  # beyond serve.shutdown_seconds, for a last write after requests that took all of it


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
    engine = open_journal(context)
    waker = open_waker(engine)
    intake = Intake(engine, woken=waker.wake)
    writer = BatchWriter(with_probes(engine, intake.take), completions=LoopCompletions(asyncio.get_running_loop()))
    admission = Admission(context.triggers, settings.journal.replay_window_days, settings.journal.max_stored_body_bytes)
    registry = CollectorRegistry()
    observer = Observer(registry)
    plane = Plane(gate, Webhook(admission, writer, observer), Health(writer))
    front = Front(
        plane,
        create_app(plane, path=settings.serve.path).wsgi_app,
        observer,
        path=settings.serve.path,
        body_timeout_seconds=settings.serve.body_timeout_seconds,
    )
    private = open_private_port("serve.metrics_listen", settings.serve.metrics_listen, registry, lambda: True)
    host, port = free_address("serve.listen", settings.serve.listen)

    def ready() -> None:
        _log.info(
            "serving",
            extra={"listen": settings.serve.listen, "path": settings.serve.path, "triggers": len(context.triggers)},
        )

    longest = settings.serve.shutdown_seconds
    stopped_at = await serve_front(front, host=host, port=port, shutdown_seconds=longest, ready=ready)
    # All that was acknowledged has committed; what may still wait here is the record of ignored deliveries.
    left = min(_LAST_WRITE_SECONDS, stopped_at + longest + _GRACE_SECONDS - time.monotonic())
    if not await asyncio.to_thread(writer.close, left):
        _log.warning("stopped while the journal did not answer")
    waker.close()
    if private is not None:
        private.close()
    _log.info("stopped")
