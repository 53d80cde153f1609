"""What can be said without a cluster of what the receiver may do in it, who reaches it, and whom it reaches."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from tests.support.deployment_manifests import BASE, DEPLOYMENT, OVERLAYS, ROOT, SETTINGS, Object, one, read
from tests.support.documents import blocks

POLICIES: dict[str, Object] = {p["metadata"]["name"]: p["spec"] for p in read(BASE / "networkpolicies.yaml")}
GUIDE = ROOT / "docs" / "install.md"


def test_the_worker_may_create_and_follow_runs_and_nothing_else() -> None:
    rules = one(BASE / "rbac.yaml", "Role", "receiver")["rules"]
    rights = {
        (g, r, verb) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for verb in rule["verbs"]
    }

    assert rights == {
        *(("tekton.dev", "pipelineruns", verb) for verb in ("create", "get", "list", "watch")),
        ("tekton.dev", "pipelines", "get"),
        ("tekton.dev", "taskruns", "list"),
    }
    assert not [o for path in BASE.glob("*.yaml") for o in read(path) if o["kind"].startswith("Cluster")]


def test_the_network_is_closed_but_for_deliveries_metrics_and_the_api_server() -> None:
    open_ports = {
        name: [(port["protocol"], port["port"]) for rule in spec.get(way, []) for port in rule["ports"]]
        for name, spec in POLICIES.items()
        for way in ("ingress", "egress")
        if spec.get(way)
    }

    assert POLICIES["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert open_ports == {
        "deliveries-to-receiver": [("TCP", "http")],
        "monitoring-to-receiver": [("TCP", "metrics-serve"), ("TCP", "metrics-work")],
        "receiver-to-api-server": [("TCP", 443), ("TCP", 6443)],
    }
    (metrics,) = POLICIES["monitoring-to-receiver"]["ingress"]
    assert metrics["from"]
    for spec in POLICIES.values():
        assert (
            spec["podSelector"].get("matchLabels", DEPLOYMENT["spec"]["selector"]["matchLabels"])
            == (DEPLOYMENT["spec"]["selector"]["matchLabels"])
        )


METADATA = {4: ["169.254.169.254", "100.100.100.200", "168.63.129.16"], 6: ["fe80::1", "fd00:ec2::254", "fd20:ce::254"]}
"""Where clouds hand out credentials: AWS, Google and Azure, Alibaba, Azure; and as far as they have it by IPv6."""


@pytest.mark.parametrize("file", [BASE / "networkpolicies.yaml", OVERLAYS / "postgresql" / "networkpolicy.yaml"])
def test_no_way_out_leads_to_a_metadata_service(file: Path) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in read(file)
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    ]

    assert blocks
    for block in blocks:
        version = 4 if "." in block["cidr"] else 6
        excepted = [ip_network(network) for network in block["except"]]
        for address in METADATA[version]:
            assert any(ip_address(address) in network for network in excepted), address


def test_the_ingress_takes_what_the_receiver_takes_and_rewrites_nothing() -> None:
    ingress = one(OVERLAYS / "example" / "ingress.yaml", "Ingress", "receiver")
    annotations = ingress["metadata"]["annotations"]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]

    size = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) * 1024 * 1024 == SETTINGS.serve.max_body_bytes
    assert (path["path"], path["pathType"]) == (SETTINGS.serve.path, "Exact")
    assert not [name for name in annotations if "rewrite" in name or "snippet" in name]
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_the_manifests_of_the_guide_lead_to_the_service() -> None:
    found = [o for block in blocks(GUIDE) if block.language == "yaml" for o in yaml.safe_load_all(block.text)]

    route = next(o for o in found if isinstance(o, dict) and o.get("kind") == "HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "Exact", "value": SETTINGS.serve.path}, "method": "POST"}]
    assert rule["backendRefs"] == [
        {"name": "receiver", "port": read(BASE / "service.yaml")[0]["spec"]["ports"][0]["port"]}
    ]
