"""Kubeconfigs that differ from the administrator's in where they lead and in who asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.api import Api
from tests.support.planes import ROOT

RIGHTS = next(
    found["rules"] for found in yaml.safe_load_all((ROOT / "k8s/base/rbac.yaml").read_text()) if found["kind"] == "Role"
)
"""What k8s/base grants the worker."""
_RBAC = "rbac.authorization.k8s.io/v1"


def write_kubeconfig(
    file: Path, original: Path, *, port: int | None = None, token: str | None = None, ca_file: Path | None = None
) -> Path:
    """Write `original` with these parts replaced, in one step, and return the file."""
    content = yaml.safe_load(original.read_text())
    cluster = content["clusters"][0]["cluster"]
    if port is not None:
        cluster["server"] = f"https://127.0.0.1:{port}"
    if ca_file is not None:
        cluster["certificate-authority"] = str(ca_file)
    if token is not None:
        content["users"][0]["user"] = {"token": token}
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(content))
    return new.replace(file)


def make_worker_account(api: Api, namespace: str, name: str = "receiver-work") -> str:
    """Make a ServiceAccount with the worker's rights in a namespace and return a token of it."""
    metadata = {"name": name, "namespace": namespace}
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    api.create({"apiVersion": _RBAC, "kind": "Role", "metadata": metadata, "rules": RIGHTS})
    bind_worker_account(api, namespace, name)
    return api.as_service_account(name, namespace=namespace).token


def bind_worker_account(api: Api, namespace: str, name: str = "receiver-work") -> None:
    """Give the account its rights."""
    binding: dict[str, Any] = {
        "apiVersion": _RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    api.create(binding)


def unbind_worker_account(api: Api, namespace: str, name: str = "receiver-work") -> None:
    """Take its rights from the account."""
    api.delete(_RBAC, "RoleBinding", name, namespace=namespace)
