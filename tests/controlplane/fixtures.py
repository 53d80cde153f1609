"""pytest fixtures: one control plane for the whole session, a namespace of its own for each test; promtool.

Register with `pytest_plugins = ["tests.controlplane.fixtures"]` in tests/conftest.py.
"""

import secrets
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.controlplane import monitoring, programs
from tests.controlplane.api import Api, ApiError
from tests.controlplane.cluster import ControlPlane
from tests.support.needs import lacking

Built = TypeVar("Built")


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start a control plane for the session (about six seconds) and stop it at the end.

    Builds its programs when they are missing, which takes minutes, once. Where that is impossible, tests that
    ask for it fail when CI=true and are skipped otherwise, which the summary of the session says. A test that
    stops a component starts it again: `with control_plane.outage(name)`.
    """
    using = _built(request, programs.ensure, what="control plane", where="on a real API server")
    with ControlPlane.start(tmp_path_factory.mktemp("controlplane"), using=using) as plane:
        yield plane


@pytest.fixture(scope="session")
def monitoring_tools(request: pytest.FixtureRequest) -> monitoring.Tools:
    """Return promtool and the CRDs of prometheus-operator, built when they are missing, as above."""
    return _built(request, monitoring.ensure, what="promtool", where="with promtool")


def _built(request: pytest.FixtureRequest, build: Callable[[], Built], *, what: str, where: str) -> Built:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    try:
        # The progress of a build that takes minutes must be seen.
        with capture.global_and_fixture_disabled():
            return build()
    except programs.ProgramsError as error:
        lacking(f"there is no {what}: {error}", untested=where)


@pytest.fixture
def run_namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Make a namespace in which PipelineRuns can run; it is removed after the test, in the background."""
    name = f"test-{secrets.token_hex(4)}"
    make_namespace(control_plane.api, name)
    yield name
    control_plane.api.delete("v1", "Namespace", name)


def make_namespace(api: Api, name: str, *, labels: dict[str, str] | None = None) -> None:
    """Make a namespace in which pods can be created at once: with its default ServiceAccount."""
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
    make_default_account(api, name)


def make_default_account(api: Api, namespace: str) -> None:
    """Make the ServiceAccount that the controller manager makes too: after an outage it may look only half a minute later."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    try:
        api.create(account, namespace=namespace)
    except ApiError as error:
        if error.code != 409:
            raise
