"""The NetworkPolicies of k8s/striv and of a run, judged by an evaluator of their rules (Kubernetes, Network Policies).

A pod that some policy selects for a direction may do what any of these policies allows, and nothing else. Traffic between two
pods needs both sides. This checks what the policies say, not that a network plugin enforces them.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.scripts import load_script

STRIV = Path(__file__).resolve().parents[3] / "k8s" / "striv"
databases = load_script("testing_databases")
UID, OTHER_UID = "0a000000-0000-0000-0000-000000000001", "0a000000-0000-0000-0000-000000000002"

Policy = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, or with no labels an address outside the cluster."""

    address: str
    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "striv-ci"


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Evaluate a label selector."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        key, operator = expression["key"], expression["operator"]
        holds = {
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
            "In": labels.get(key) in expression.get("values", []),
            "NotIn": labels.get(key) not in expression.get("values", []),
        }[operator]
        if not holds:
            return False
    return True


def matches_peer(rule: dict[str, Any], peer: Peer, own_namespace: str) -> bool:
    """Evaluate one entry of `from` or `to`."""
    if "ipBlock" in rule:
        address = ipaddress.ip_address(peer.address)
        inside = address in ipaddress.ip_network(rule["ipBlock"]["cidr"])
        return inside and not any(address in ipaddress.ip_network(e) for e in rule["ipBlock"].get("except", []))
    if not peer.labels:
        return False
    if "namespaceSelector" in rule:
        if not selects(rule["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != own_namespace:
        return False
    return selects(rule.get("podSelector", {}), peer.labels)


def allows(policies: list[Policy], direction: str, pod: Peer, peer: Peer, port: int, protocol: str) -> bool:
    """Tell whether a pod may exchange traffic with a peer in one direction, by the policies of its namespace."""
    isolating = [
        policy["spec"]
        for policy in policies
        if pod.namespace == "striv-ci"
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not isolating:
        return True
    key, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    for spec in isolating:
        for rule in spec.get(key, []):
            port_fits = "ports" not in rule or any(
                p.get("protocol", "TCP") == protocol and p.get("port", port) == port for p in rule["ports"]
            )
            if port_fits and (peers not in rule or any(matches_peer(r, peer, "striv-ci") for r in rule[peers])):
                return True
    return False


def connects(policies: list[Policy], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Tell whether a connection is allowed by both sides."""
    leaves = allows(policies, "Egress", source, target, port, protocol) if source.labels else True
    arrives = allows(policies, "Ingress", target, source, port, protocol) if target.labels else True
    return leaves and arrives


@pytest.fixture(scope="module")
def policies() -> list[Policy]:
    """The fixed policies and those that deploy-test-dependencies makes for two runs."""
    fixed = [d for d in yaml.safe_load_all((STRIV / "networkpolicies.yaml").read_text()) if d]
    made = [
        manifest
        for uid in (UID, OTHER_UID)
        for kind in ("mysql", "postgres")
        for _, resource, manifest in databases.dependents(kind, {"metadata": {"uid": "job"}}, uid=uid, password="x")
        if resource == "networkpolicies"
    ]
    assert len(fixed) == 4
    assert len(made) == 8
    return fixed + made


def task(name: str, uid: str = UID) -> Peer:
    """Return the pod of a task of a run."""
    return Peer("10.1.0.5", {"tekton.dev/pipelineTask": name, "tekton.dev/pipelineRunUID": uid})


def database(kind: str, uid: str = UID) -> Peer:
    """Return the pod of a database of a run."""
    return Peer("10.1.0.9", {"app.kubernetes.io/name": kind, "striv-receiver.dev/pipeline-run-uid": uid})


TASKS = [
    "checkout",
    "install-frontend-dependencies",
    "install-backend-dependencies",
    "write-testing-databases-conf",
    "deploy-test-dependencies",
    "test-frontend",
    "test-backend",
    "delete-test-dependencies",
    "delete-workspace",
]
DOWNLOADING = {"checkout", "install-frontend-dependencies", "install-backend-dependencies"}
WITH_API = {"deploy-test-dependencies", "delete-test-dependencies"}
PORTS = {"mysql": 3306, "postgres": 5432}
GITHUB, GITHUB_V6 = Peer("140.82.112.3"), Peer("2606:50c0:8000::153")
# Of most clouds; Alibaba's, Azure's and Google's are not link-local.
METADATA = [
    Peer("169.254.169.254"),
    Peer("100.100.100.200"),
    Peer("168.63.129.16"),
    Peer("fd00:ec2::254"),
    Peer("fd20:ce::254"),
    Peer("fe80::a9fe:a9fe"),
]
INSIDE = [
    Peer("10.96.0.1"),
    Peer("172.17.0.1"),
    Peer("192.168.1.1"),
    Peer("100.64.0.1"),
    Peer("127.0.0.1"),
    Peer("fd12::1"),
]
DNS = Peer("10.1.0.2", {"k8s-app": "kube-dns"}, "kube-system")
STRANGER = Peer("10.1.0.77", {"app": "stranger"}, "default")


@pytest.mark.parametrize("kind", PORTS)
def test_the_back_end_tests_reach_the_databases_of_their_own_run_only(kind: str, policies: list[Policy]) -> None:
    assert connects(policies, task("test-backend"), database(kind), PORTS[kind])
    assert not connects(policies, task("test-backend", OTHER_UID), database(kind), PORTS[kind])
    assert not connects(policies, task("test-backend"), database(kind), 22)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "test-backend"])
def test_no_other_task_reaches_a_database(name: str, policies: list[Policy]) -> None:
    for kind, port in PORTS.items():
        assert not connects(policies, task(name), database(kind), port)


def test_nothing_from_outside_reaches_a_pod_of_a_run(policies: list[Policy]) -> None:
    for target in [task(name) for name in TASKS] + [database("mysql"), database("postgres")]:
        for port in (22, 80, 443, 3306, 5432, 8080):
            assert not connects(policies, STRANGER, target, port)
            assert not connects(policies, GITHUB, target, port)


@pytest.mark.parametrize("name", TASKS)
def test_only_downloads_and_the_deployer_leave_the_cluster_and_only_by_tls(name: str, policies: list[Policy]) -> None:
    for target in (GITHUB, GITHUB_V6):
        assert connects(policies, task(name), target, 443) == (name in DOWNLOADING | WITH_API)
        assert not connects(policies, task(name), target, 80)
        assert not connects(policies, task(name), target, 22)


@pytest.mark.parametrize("name", TASKS)
def test_no_task_reaches_a_metadata_service(name: str, policies: list[Policy]) -> None:
    for target in METADATA:
        for port in (80, 443, 6443):
            assert not connects(policies, task(name), target, port), target


@pytest.mark.parametrize("name", TASKS)
def test_only_the_deployer_reaches_the_clusters_own_ranges_and_there_the_api_server(
    name: str, policies: list[Policy]
) -> None:
    for target in INSIDE:
        assert connects(policies, task(name), target, 443) == (name in WITH_API)
        assert connects(policies, task(name), target, 6443) == (name in WITH_API)
        assert not connects(policies, task(name), target, 10250)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_resolve_names(name: str, policies: list[Policy]) -> None:
    assert connects(policies, task(name), DNS, 53, "UDP")
    assert connects(policies, task(name), DNS, 53)
    assert not connects(policies, task(name), STRANGER, 53, "UDP")


def test_a_database_starts_no_connections(policies: list[Policy]) -> None:
    for target in [DNS, GITHUB, STRANGER, database("postgres"), task("test-backend"), *METADATA, *INSIDE]:
        for port in (53, 80, 443, 5432):
            assert not connects(policies, database("mysql"), target, port)
