"""A bench for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.clients.cluster import Cluster
from receiver.settings.model import ClusterSettings
from tests.support.api_server import api_server
from tests.support.dispatching import Bench
from tests.support.journals import opened


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with api_server() as server, opened(tmp_path) as engine:
        settings = ClusterSettings(kubeconfig=str(server.kubeconfig(tmp_path)), read_timeout_seconds=5.0)
        bench = Bench(engine, server, Cluster(settings, folder=tmp_path, connections=8))
        yield bench
        bench.close()
