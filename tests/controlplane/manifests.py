"""Tekton's own manifests: what is taken from its config/ folder, and what changes for processes."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

NAMESPACE = "tekton-pipelines"
SERVICE = "tekton-pipelines-webhook"
SECRET = "webhook-certs"

# Deployments and what belongs to their pods stay out: the processes are started by us.
PATTERNS = (
    "100-namespace/*.yaml",
    "200-*.yaml",
    "201-*.yaml",
    "clusterrole-aggregate-*.yaml",
    "300-crds/*.yaml",
    "config-*.yaml",
    "500-webhooks.yaml",
)

SETTINGS: Mapping[str, Mapping[str, str]] = {
    # Namespaces with Pod Security `restricted` refuse the containers that Tekton injects unless this is set.
    "feature-flags": {"set-security-context": "true"},
    # Without it both processes want a port for metrics.
    "config-observability": {"metrics-protocol": "none"},
}
"""ConfigMap -> data that differs from Tekton's release."""


def bundle(config: Path, *, version: str) -> list[Object]:
    """Read what the control plane needs from Tekton's config/ folder, as a release of that version has it."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    objects: list[Object] = []
    for pattern in PATTERNS:
        files = sorted(config.glob(pattern))
        if not files:
            raise FileNotFoundError(f"Tekton's manifests {config / pattern} do not exist")
        for file in files:
            # A release replaces exactly this word; ConfigMap pipelines-info then tells clients the version.
            text = file.read_text().replace('"devel"', f'"{version}"')
            objects += [document for document in yaml.load_all(text, Loader=loader) if document]
    return objects


def prepared(objects: Iterable[Object], *, webhook_port: int, certificates: Mapping[str, str]) -> list[Object]:
    """Return the manifests for a webhook that listens on this port of the machine itself.

    `certificates` is the data (base64) of Secret webhook-certs: filled in here, and its CA set in the CRDs,
    because Tekton then has nothing to change in them, and each change of a CRD costs the API server a new
    schema.
    """
    result = [_with_settings(copy.deepcopy(each), certificates) for each in objects]
    for each in result:
        for client in _webhook_clients(each):
            client["service"]["port"] = webhook_port
            client["caBundle"] = certificates["ca-cert.pem"]
            if each["kind"] == "CustomResourceDefinition":
                client["service"]["path"] = "/resource-conversion"
    result.append(
        {
            # The API server resolves a webhook's Service by its spec; an ExternalName leads out of the
            # cluster.
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
    )
    return result


def _with_settings(manifest: Object, certificates: Mapping[str, str]) -> Object:
    name = manifest["metadata"]["name"]
    if manifest["kind"] == "ConfigMap" and name in SETTINGS:
        manifest["data"] = {**manifest["data"], **SETTINGS[name]}
    if manifest["kind"] == "Secret" and name == SECRET:
        manifest["data"] = dict(certificates)
    return manifest


def _webhook_clients(manifest: Object) -> list[Object]:
    if manifest["kind"].endswith("WebhookConfiguration"):
        return [webhook["clientConfig"] for webhook in manifest["webhooks"]]
    if manifest["kind"] == "CustomResourceDefinition":
        conversion = manifest["spec"].get("conversion", {}).get("webhook")
        return [conversion["clientConfig"]] if conversion else []
    return []
