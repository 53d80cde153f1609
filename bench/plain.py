"""The same Flask application without our front, for other servers: `bench.plain:application` (WSGI), `bench.plain:asgi`."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry

from receiver.core.triggers import compile_triggers
from receiver.journal.engine import journal_url, open_engine
from receiver.journal.intake import Intake
from receiver.journal.probe import with_probes
from receiver.journal.writer import BatchWriter
from receiver.logs import set_up_logging
from receiver.serve.admission import Admission
from receiver.serve.app import Plane, create_app
from receiver.serve.gate import Gate
from receiver.serve.health import Health
from receiver.serve.observe import Observer
from receiver.serve.secrets import SecretFiles
from receiver.serve.webhook import Webhook
from receiver.settings import load_settings


def build() -> Flask:
    """Return the application for the configuration of $RECEIVER_CONFIG."""
    settings = load_settings(Path(os.environ["RECEIVER_CONFIG"]), {})
    set_up_logging(settings.log)
    engine = open_engine(journal_url(settings.journal.url))
    writer = BatchWriter(with_probes(engine, Intake(engine, woken=lambda: None).take))
    kept = settings.journal
    admission = Admission(compile_triggers(settings), kept.replay_window_days, kept.max_stored_body_bytes)
    plane = Plane(
        Gate(SecretFiles(settings, clock=time.monotonic), max_body_bytes=settings.serve.max_body_bytes),
        Webhook(admission, writer, Observer(CollectorRegistry())),
        Health(writer),
    )
    return create_app(plane, path=settings.serve.path)


def __getattr__(name: str) -> Any:
    # At the first look, which for the servers that fork is in the worker.
    if name == "application":
        globals()[name] = build()
    elif name == "asgi":
        # No dependency of ours, so it is not looked for before it is asked for.
        globals()[name] = importlib.import_module("asgiref.wsgi").WsgiToAsgi(build())
    else:
        raise AttributeError(name)
    return globals()[name]
