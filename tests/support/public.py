"""The public plane in two forms that answer alike: the Flask application in this process, and `receiver serve` as it runs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, func, select
from werkzeug.datastructures import Headers
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from receiver.core.triggers import compile_triggers
from receiver.journal.changes import Job, StartedJob, died, finished, started
from receiver.journal.engine import journal_url, open_engine, reading
from receiver.journal.intake import Intake
from receiver.journal.jobs import Jobs
from receiver.journal.migrate import migrate
from receiver.journal.probe import with_probes
from receiver.journal.queries import DeliveryRecord, Records
from receiver.journal.schema import metadata
from receiver.journal.writer import BatchWriter
from receiver.serve.admission import Admission
from receiver.serve.app import Plane, create_app
from receiver.serve.gate import Gate
from receiver.serve.health import Health
from receiver.serve.observe import Observer
from receiver.serve.secrets import SecretFiles
from receiver.serve.webhook import Webhook
from receiver.settings import Settings, load_settings
from tests.support.http import Answer, Delivery, connect, exchange
from tests.support.planes import free_port
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


class Journal:
    """The journal of a plane, seen from outside, and the part of the private plane that tests play."""

    def __init__(self, settings: Settings) -> None:
        self.engine: Engine = open_engine(journal_url(settings.journal.url), durable=False)
        self.file = Path(str(journal_url(settings.journal.url).database))
        migrate(self.engine, now=time.time())
        self.records = Records(self.engine)
        self._jobs = Jobs(self.engine)
        self._held: list[Job] = []

    def counts(self) -> dict[str, int]:
        """Return table -> number of rows."""
        with reading(self.engine) as connection:
            return {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in metadata.tables.items()
            }

    def delivery(self, guid: str) -> DeliveryRecord:
        """Return a delivery that is stored, or about to be."""
        return wait_until(
            lambda: next((record for record in self.records.recent(limit=50) if record.guid == guid), None),
            what=f"delivery {guid}",
        )

    def kill(self, guid: str, *, reason: str = "refused") -> None:
        """Make the jobs of a delivery dead."""
        self._change(guid, lambda job: died(job, reason=reason, message="HTTP 403: no", at=time.time()))

    def start(self, guid: str) -> None:
        """Make the jobs of a delivery started."""
        self._change(guid, lambda job: started(job, run_name=self._run_name(guid), run_uid="u", at=time.time()))

    def finish(self, guid: str) -> None:
        """Make the jobs of a delivery finished."""
        self.start(guid)
        open_jobs: list[StartedJob] = [job for job in self._jobs.started() if job.guid == guid]
        changes = [
            finished(job, result="succeeded", reason="Succeeded", message="", failed_task=None, at=time.time())
            for job in open_jobs
        ]
        assert changes
        assert all(self._jobs.apply(changes))

    def _run_name(self, guid: str) -> str:
        return self.delivery(guid).jobs[0].run_name

    def _change(self, guid: str, step: Any) -> None:
        # Whatever else is claimed with it stays in hand for a later call.
        self._held += self._jobs.claim(now=time.time(), limit=1_000, lease_seconds=600.0)
        changes = [step(job) for job in self._held if job.guid == guid]
        self._held = [job for job in self._held if job.guid != guid]
        assert changes, f"no waiting job of {guid}"
        assert all(self._jobs.apply(changes))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class PublicPlane(Protocol):
    """What both forms offer to a test."""

    journal: Journal

    def deliver(self, delivery: Delivery) -> Answer:
        """Send one request and return its answer."""


class FlaskPlane:
    """The Flask application on a real journal, without the front. `now` is the time that it believes in."""

    def __init__(self, config: Path) -> None:
        settings = load_settings(config, {})
        self.settings = settings
        self.journal = Journal(settings)
        self.now: float | None = None
        self.secrets = SecretFiles(settings, clock=time.monotonic)
        self._engine = open_engine(journal_url(settings.journal.url))
        self.woken = 0
        self.writer = BatchWriter(with_probes(self._engine, Intake(self._engine, woken=self._wake).take))
        admission = Admission(
            compile_triggers(settings), settings.journal.replay_window_days, settings.journal.max_stored_body_bytes
        )
        plane = Plane(
            Gate(self.secrets, max_body_bytes=settings.serve.max_body_bytes),
            Webhook(admission, self.writer, Observer(CollectorRegistry()), clock=self._clock),
            Health(self.writer),
        )
        self.app = create_app(plane, path=settings.serve.path)
        self.client: Client = self.app.test_client()

    def deliver(self, delivery: Delivery) -> Answer:
        """Call the WSGI application as a server would."""
        builder = EnvironBuilder(
            path=delivery.path, method=delivery.method, headers=Headers(list(delivery.headers)), input_stream=None
        )
        environment = builder.get_environ()
        builder.close()
        body = b"".join(delivery.chunks) if delivery.chunks else delivery.body
        environment["wsgi.input"] = io.BytesIO(body)
        environment.pop("CONTENT_LENGTH", None)
        if delivery.chunks:
            # What servers say that take chunked bodies apart: the stream ends where the body does.
            environment["HTTP_TRANSFER_ENCODING"] = "chunked"
            environment["wsgi.input_terminated"] = True
        elif body or delivery.length is not None or delivery.method == "POST":
            environment["CONTENT_LENGTH"] = str(len(body)) if delivery.length is None else delivery.length
        content, status, headers = run_wsgi_app(self.app.wsgi_app, environment, buffered=True)
        lower = {name.lower(): value for name, value in headers.items()}
        return Answer(int(status.split()[0]), lower, b"".join(content))

    def close(self) -> None:
        """End the writer and close the journal."""
        self.writer.close()
        self._engine.dispose()
        self.journal.close()

    def _wake(self) -> None:
        self.woken += 1

    def _clock(self) -> float:
        return time.time() if self.now is None else self.now


class FrontPlane:
    """`receiver serve` in a process of its own, on free ports of the loopback."""

    def __init__(self, config: Path, environment: Mapping[str, str]) -> None:
        settings = load_settings(config, {})
        self.settings = settings
        self.journal = Journal(settings)
        self.port = free_port()
        listen = {"RECEIVER__SERVE__LISTEN": f"127.0.0.1:{self.port}"}
        if settings.serve.metrics_listen is not None:
            # Nobody asks there; the default port would be everybody's.
            listen["RECEIVER__SERVE__METRICS_LISTEN"] = "127.0.0.1:0"
        self.log_file = config.parent / "serve.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "receiver", "--config", str(config), "serve"],
                cwd=CHECKOUT,
                env={**os.environ, **listen, **environment},
                stderr=log,
            )
        wait_until(self._answers, what="the front to listen")

    def deliver(self, delivery: Delivery) -> Answer:
        """Send one request over a connection of its own."""
        return exchange(self.port, delivery)

    def log(self) -> list[dict[str, Any]]:
        """Return what was logged so far."""
        return [json.loads(line) for line in self.log_file.read_text(encoding="utf-8").splitlines()]

    def close(self) -> int:
        """Stop the process as Kubernetes does and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        self.journal.close()
        return code

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log_file.read_text(encoding="utf-8")
        try:
            connect(self.port).close()
        except ConnectionRefusedError:
            return False
        return True
