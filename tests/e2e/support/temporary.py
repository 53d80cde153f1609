"""What tests put into a cluster beside the runs, taken away again when they are over."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.support.cluster import Cluster, kubectl
from tests.e2e.support.repository import SERVER, start_server
from tests.e2e.support.work import NAMESPACE, POD, start_looking


@contextmanager
def git_server(cluster: Cluster) -> Iterator[None]:
    """The server that runs fetch from, with its namespace and the way to it."""
    try:
        start_server(cluster)
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "-f", str(SERVER))


@contextmanager
def looking(cluster: Cluster) -> Iterator[None]:
    """The pod that looks at the work claim."""
    try:
        start_looking(cluster)
        yield
    finally:
        kubectl("delete", "pod", POD, "-n", NAMESPACE, "--ignore-not-found")
