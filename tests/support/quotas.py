"""Quotas, of which the control plane of the tests has only the half that refuses."""

from __future__ import annotations

from tests.controlplane.api import Api

_COUNT = "count/pipelineruns.tekton.dev"


def limit_runs(api: Api, namespace: str, most: int) -> None:
    """Let a quota allow so many PipelineRuns; return when the API server refuses by it, or would from then on."""
    hard = {_COUNT: str(most)}
    metadata = {"name": "runs", "namespace": namespace}
    api.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
    # The controller that does this in a cluster is not among those that the tests run.
    status = {"status": {"hard": hard, "used": {_COUNT: "0"}}}
    api.patch("v1", "ResourceQuota", "runs", status, namespace=namespace, subresource="status")
