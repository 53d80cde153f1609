"""The real `receiver serve` with no proxy in front of it, and what is sent to it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.http import Delivery, connect, read_answer
from tests.support.planes import Planes, delivery_headers
from tests.support.pushes import encoded, push_payload
from tests.support.signing import new_guid

FULL = os.environ.get("STRIV_FULL") == "1"
BODY_TIMEOUT = 3.0
FORGED = "sha256=" + "0" * 64


def prepared(folder: Path) -> Planes:
    """Return a receiver that is impatient with bodies; only its public plane is to run."""
    changes = {"serve": {"metrics_listen": None, "body_timeout_seconds": BODY_TIMEOUT}}
    return Planes.prepare(folder / "receiver", kubeconfig=folder / "none", namespace="none", changes=changes)


def pid(planes: Planes) -> int:
    """Return the id of the public plane's process."""
    return planes.processes["serve"].pid


def signed(body: bytes, *headers: tuple[str, str]) -> Delivery:
    """Return a delivery of this body, with these headers in place of its own."""
    return Delivery(body, tuple(delivery_headers(body, new_guid()).items())).with_headers(*headers)


def push() -> Delivery:
    """Return a delivery of a new push."""
    return signed(encoded(push_payload()))


def answered(planes: Planes, delivery: Delivery) -> tuple[int, float]:
    """Send a request that has to be answered at once; return its status and the seconds that it took."""
    began = time.perf_counter()
    with connect(planes.port) as connection:
        connection.sendall(delivery.raw())
        status = read_answer(connection).status
    return status, time.perf_counter() - began
