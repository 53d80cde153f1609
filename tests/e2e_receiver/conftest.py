"""The receiver installed in a real cluster: built, applied, given its secrets, ready; and removed after each module's tests.

KUBECONFIG names a cluster with Tekton, real pods and a node whose address this machine reaches; kubectl, curl and openssl are
in PATH. The image comes from STRIV_E2E_CLUSTER (a program with `build FOLDER NAME`, by default ../shared/cluster/cluster), or is
in the cluster already: then RECEIVER_E2E_IMAGE is its name.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support.admission import install_pipeline
from tests.e2e.support.cluster import CHECKOUT, Cluster
from tests.e2e_receiver.installation import IMAGE, RUNS, Installation
from tests.e2e_receiver.overlays import write_overlay
from tests.e2e_receiver.postgresql import Database
from tests.support.needs import lacking

_PIPELINE = f"/apis/tekton.dev/v1/namespaces/{RUNS}/pipelines/deploy-striv"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, with the pipeline installed."""
    if not os.environ.get("KUBECONFIG"):
        lacking("KUBECONFIG names no cluster with real pods")
    connected = Cluster.from_kubeconfig()
    if connected.get(_PIPELINE) is None:
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
def _installed(cluster: Cluster, folder: Path, urls: Mapping[str, str] | None = None) -> Iterator[Installation]:
    installed = Installation(cluster, folder, secret=secrets.token_urlsafe(24), journal_urls=urls or {})
    try:
        installed.apply()
        yield installed
    finally:
        installed.remove()


@pytest.fixture(scope="module")
def installation(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The receiver with SQLite: k8s/overlays/local."""
    folder = tmp_path_factory.mktemp("overlay")
    write_overlay(folder, overlay="local", image=image)
    with _installed(cluster, folder) as installed:
        yield installed


@pytest.fixture(scope="module")
def replicas(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two replicas of the receiver with PostgreSQL: k8s/overlays/postgresql."""
    folder = tmp_path_factory.mktemp("overlay")
    write_overlay(folder, overlay="postgresql", image=image)
    with Database.started(cluster) as database, _installed(cluster, folder, database.urls) as installed:
        yield installed
