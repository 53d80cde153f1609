"""Fixtures of the tests on real pods.

They need KUBECONFIG to name a cluster with Tekton Pipelines >= 1.11 whose feature flag set-security-context is "true",
kubectl in PATH, and an administrator's rights. They install k8s/striv by themselves and leave it, use the namespaces
striv-ci and striv-e2e, change databases and tasks for a while, and so run one after another and not beside other runs.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.support.admission import install_pipeline
from tests.e2e.support.cluster import Cluster
from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import Runs
from tests.e2e.support.temporary import git_server, looking

# The miniature of Striv has tests of its own, which pods run.
collect_ignore = ["striv"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster with the pipeline installed."""
    connected = Cluster.from_kubeconfig()
    flags = connected.call("GET", "/api/v1/namespaces/tekton-pipelines/configmaps/feature-flags")
    assert flags["data"].get("set-security-context") == "true", (
        'Tekton\'s feature flag set-security-context must be "true": docs/pipeline.md, Installation'
    )
    install_pipeline(connected)
    with looking(connected):
        yield connected


@pytest.fixture(scope="session")
def repository(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The repository that runs fetch from."""
    with git_server(cluster):
        yield Repository(tmp_path_factory.mktemp("repository") / "striv")


@pytest.fixture
def runs(cluster: Cluster) -> Iterator[Runs]:
    """Starts runs; all are deleted after the test."""
    started = Runs(cluster)
    yield started
    started.delete_all()
