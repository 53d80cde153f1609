"""A PostgreSQL in the cluster with the three roles of docs/install.md."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.support.cluster import CHECKOUT, Cluster, Object, eventually, kubectl, stand_in_images

NAMESPACE = "striv-e2e-database"
IMAGE = "docker.io/library/postgres:15.13-bookworm"
ROLES = ("owner", "serve", "work")


@dataclass(frozen=True)
class Database:
    """A running server."""

    urls: Mapping[str, str]
    """What the Secret receiver-journal holds."""

    @classmethod
    @contextmanager
    def started(cls, cluster: Cluster) -> Iterator["Database"]:
        """Start a server with an empty database, and remove it in the end."""
        # The databases of the runs have the same image.
        stand_in_images([CHECKOUT / "k8s" / "striv" / "databases.yaml"])
        passwords = {role: secrets.token_hex(12) for role in ("postgres", *ROLES)}
        kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(_manifests(passwords["postgres"])))
        try:
            eventually(lambda: _answers(cluster), what="PostgreSQL answers", seconds=120)
            for role in ROLES:
                _query(f"CREATE ROLE receiver_{role} LOGIN PASSWORD '{passwords[role]}'")
            _query("CREATE DATABASE receiver OWNER receiver_owner ENCODING 'UTF8' TEMPLATE template0")
            host = f"postgresql.{NAMESPACE}.svc"
            yield cls(
                {
                    f"{role}-url": f"postgresql+psycopg://receiver_{role}:{passwords[role]}@{host}/receiver"
                    for role in ROLES
                }
            )
        finally:
            kubectl("delete", "namespace", NAMESPACE)


def _query(statement: str) -> str:
    return kubectl("exec", "-n", NAMESPACE, "postgresql", "--", "psql", "-U", "postgres", "-tAc", statement)


def _answers(cluster: Cluster) -> bool:
    pod = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/postgresql") or {}
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def _manifests(password: str) -> Object:
    labels = {"app": "postgresql"}
    metadata = {"name": "postgresql", "namespace": NAMESPACE}
    # By TCP: the image answers on its socket before it is ready.
    ready = {"exec": {"command": ["sh", "-c", 'pg_isready -h "$(hostname -i)"']}, "periodSeconds": 1}
    environment = {"POSTGRES_PASSWORD": password, "PGDATA": "/var/lib/postgresql/data/pg"}
    container = {
        "name": "postgresql",
        "image": IMAGE,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "readinessProbe": ready,
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
