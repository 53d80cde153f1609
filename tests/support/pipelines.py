"""A Pipeline whose pods a test can play, and the template without what only the real one has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.controlplane.api import Api
from tests.support.planes import Planes


def make_pipeline(api: Api, namespace: str) -> None:
    """A Pipeline of the name that the template refers to, with two tasks that a test can play."""
    step = {"name": "run", "image": "example.org/none:1", "command": ["true"]}
    tasks = [{"name": name, "taskSpec": {"steps": [step]}} for name in ("test-frontend", "test-backend")]
    params = [
        {"name": name, "type": "string", "default": ""} for name in ("repo-url", "revision", "branch", "repository-id")
    ]
    spec = {"params": params, "tasks": tasks, "workspaces": [{"name": "striv-workspace", "optional": True}]}
    api.create(
        {
            "apiVersion": "tekton.dev/v1",
            "kind": "Pipeline",
            "metadata": {"name": "deploy-striv", "namespace": namespace},
            "spec": spec,
        }
    )
    for account in ("striv-ci", "test-dependencies-deployer"):
        api.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}
        )


def simplify(planes: Planes) -> None:
    """Leave out of the template what only the real Pipeline has: runs for tasks of its own."""
    template = planes.folder / "pipelineruns/striv.yaml"
    text = template.read_text()
    head, _, rest = text.partition("  taskRunSpecs:")
    template.write_text(head + "  workspaces:" + rest.partition("  workspaces:")[2])


@contextmanager
def refused_template(planes: Planes) -> Iterator[None]:
    """Have the API server refuse every run meanwhile, for good; a worker that runs knows nothing of the good one afterwards."""
    template = planes.folder / "pipelineruns/striv.yaml"
    good = template.read_text()
    template.write_text(good.replace("\n  pipelineRef:", "\n  nonsense: true\n  pipelineRef:"))
    try:
        yield
    finally:
        template.write_text(good)
