"""The receiver installed in a real cluster: built, applied, given its secrets, ready; and removed after each module's tests.

CONTRIBUTING.md, On real pods, says what the cluster has to be and how it is named.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support.admission import install_pipeline
from tests.e2e.support.cluster import CHECKOUT, Cluster
from tests.e2e_receiver.installation import IMAGE, Installation
from tests.e2e_receiver.overlays import copy_checkout, write_overlay
from tests.e2e_receiver.postgresql import Database
from tests.support.needs import lacking

_MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, with the pipeline of this checkout installed."""
    if not os.environ.get("KUBECONFIG"):
        lacking("KUBECONFIG names no cluster with real pods")
    connected = Cluster.from_kubeconfig()
    install_pipeline(connected)
    return connected


@pytest.fixture(scope="session")
def image(cluster: Cluster) -> str:
    """The receiver's image, which the cluster can run."""
    assert cluster
    if name := os.environ.get("RECEIVER_E2E_IMAGE"):
        return name
    program = Path(os.environ.get("STRIV_E2E_CLUSTER", CHECKOUT.parent / "shared" / "cluster" / "cluster"))
    if not program.is_file():
        lacking("no image: set RECEIVER_E2E_IMAGE, or STRIV_E2E_CLUSTER to a program that builds it")
    subprocess.run([program, "build", str(CHECKOUT), IMAGE], check=True, capture_output=True, timeout=900)
    return IMAGE


@contextmanager
def _installed(
    cluster: Cluster, folder: Path, *, overlay: str, image: str, create_journal_secret: str = ""
) -> Iterator[Installation]:
    copy_checkout(folder)
    write_overlay(folder, overlay=overlay, image=image)
    installed = Installation(cluster, folder, create_journal_secret=create_journal_secret)
    try:
        installed.apply()
        yield installed
    finally:
        installed.remove()


@pytest.fixture(scope="module")
def installation(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The receiver with SQLite: k8s/overlays/local."""
    with _installed(cluster, tmp_path_factory.mktemp("checkout"), overlay="local", image=image) as installed:
        yield installed


@pytest.fixture(scope="module")
def replicas(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two replicas of the receiver with PostgreSQL: k8s/overlays/postgresql."""
    folder = tmp_path_factory.mktemp("checkout")
    with (
        Database.started(cluster) as database,
        _installed(
            cluster, folder, overlay="postgresql", image=image, create_journal_secret=database.create_secret
        ) as installed,
    ):
        yield installed


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a figure for the summary at the end of the session."""
    figures = request.config.stash.setdefault(_MEASURED, [])
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was measured."""
    if figures := config.stash.get(_MEASURED, []):
        terminalreporter.section("measured")
        for figure in figures:
            terminalreporter.line(figure)
