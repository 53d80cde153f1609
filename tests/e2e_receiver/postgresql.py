"""A PostgreSQL in the cluster with the database and the three roles that docs/install.md makes."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.support.cluster import CHECKOUT, Cluster, Object, eventually, kubectl, stand_in_images
from tests.support.guide import filled_in, step

NAMESPACE = "striv-e2e-database"
IMAGE = "docker.io/library/postgres:15.13-bookworm"
HOST = f"postgresql.{NAMESPACE}.svc"
ROLES = ("owner", "serve", "work")


@dataclass(frozen=True)
class Database:
    """A running server."""

    create_secret: str
    """The command that makes the Secret receiver-journal."""

    @classmethod
    @contextmanager
    def started(cls, cluster: Cluster) -> Iterator["Database"]:
        """Start a server with an empty database, and remove it in the end."""
        # The databases of the runs have the same image.
        stand_in_images([CHECKOUT / "k8s" / "striv" / "databases.yaml"])
        passwords = {role: secrets.token_hex(12) for role in ROLES}
        kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(_manifests(secrets.token_hex(12))))
        try:
            eventually(lambda: _answers(cluster), what="PostgreSQL answers", seconds=120)
            _create_roles(passwords)
            yield cls(
                filled_in(
                    step("Two replicas", 1),
                    {f"{role}:...@postgres.example.com": f"{role}:{passwords[role]}@{HOST}" for role in ROLES},
                )
            )
        finally:
            kubectl("delete", "namespace", NAMESPACE)


def _create_roles(passwords: dict[str, str]) -> None:
    # In the server's pod, where psql is; the file comes on its standard input.
    file = "k8s/overlays/postgresql/roles.sql"
    given = {f"{role}_password=...": f"{role}_password={password}" for role, password in passwords.items()}
    command = filled_in(step("Two replicas", 0), {"--host postgres.example.com ": "", file: "-", **given})
    in_pod = ("exec", "-i", "-n", NAMESPACE, "postgresql", "--", "sh", "-ec")
    kubectl(*in_pod, command, stdin=(CHECKOUT / file).read_text())


def _answers(cluster: Cluster) -> bool:
    pod = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/postgresql") or {}
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def _manifests(password: str) -> Object:
    labels = {"app": "postgresql"}
    metadata = {"name": "postgresql", "namespace": NAMESPACE}
    # By TCP: the image answers on its socket before it is ready. At the start alone: a probe that is slow on a busy node would
    # take the database away from its clients.
    command = ["sh", "-c", 'pg_isready -h "$(hostname -i)"']
    started = {"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 120}
    environment = {"POSTGRES_PASSWORD": password, "PGDATA": "/var/lib/postgresql/data/pg"}
    container = {
        "name": "postgresql",
        "image": IMAGE,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "startupProbe": started,
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "labels": labels}, "spec": spec},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": labels, "ports": [{"port": 5432}]},
            },
        ],
    }
