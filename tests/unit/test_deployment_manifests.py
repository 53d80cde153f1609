"""What can be said of config/, k8s/base, k8s/overlays, the Dockerfile and docs/install.md without a cluster."""

import fnmatch
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.cli.common import split_address
from receiver.settings import load_settings
from tests.support.documents import blocks

ROOT = Path(__file__).resolve().parents[2]
BASE, OVERLAYS = ROOT / "k8s" / "base", ROOT / "k8s" / "overlays"
KUSTOMIZATIONS = sorted(
    p.parent for p in [ROOT / "config" / "kustomization.yaml", *BASE.parent.rglob("kustomization.yaml")]
)
CONFIG_FOLDER = Path("/etc/receiver")
ALL_CONTAINERS = ["journal", "check", "serve", "work"]

Object = dict[str, Any]


def read(path: Path) -> list[Object]:
    """Return the objects of a YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def one(path: Path, kind: str, name: str) -> Object:
    """Return one object of a file."""
    return next(o for o in read(path) if o["kind"] == kind and o["metadata"]["name"] == name)


SETTINGS = load_settings(ROOT / "config" / "receiver.yaml", {})
DEPLOYMENT = one(BASE / "deployment.yaml", "Deployment", "receiver")
POD: Object = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINERS: dict[str, Object] = {c["name"]: c for c in [*POD["initContainers"], *POD["containers"]]}
VOLUMES: dict[str, Object] = {v["name"]: v for v in POD["volumes"]}
POLICIES: dict[str, Object] = {p["metadata"]["name"]: p["spec"] for p in read(BASE / "networkpolicies.yaml")}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GUIDE = ROOT / "docs" / "install.md"


def mounts(container: str) -> dict[str, str]:
    """Return what a container mounts: folder or file -> volume."""
    return {m["mountPath"]: m["name"] for m in CONTAINERS[container]["volumeMounts"]}


def holders(volume_kind: str) -> set[str]:
    """Return the containers that mount a volume of this kind."""
    names = {name for name, volume in VOLUMES.items() if volume_kind in volume}
    return {container for container in CONTAINERS if names & set(mounts(container).values())}


# ---------------------------------------------------------------- kustomize
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_manifest_is_forgotten_by_its_kustomization(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    generated = [file for generator in kustomization.get("configMapGenerator", []) for file in generator["files"]]
    patches = [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
    named = {*kustomization.get("resources", []), *generated, *patches, *kustomization.get("configurations", [])}

    own = (file.relative_to(folder) for file in folder.rglob("*.yaml"))
    unnamed = {str(file) for file in own if file.name != "kustomization.yaml" and file.parts[0] != "secrets"} - named

    assert not {name for name in named if not (folder / name).exists()}
    assert not unnamed


def test_every_template_of_the_configuration_is_deployed_where_the_configuration_expects_it() -> None:
    (config, templates) = yaml.safe_load((ROOT / "config" / "kustomization.yaml").read_text())["configMapGenerator"]
    served = {volume["configMap"]["name"]: name for name, volume in VOLUMES.items() if "configMap" in volume}
    deployed = {CONFIG_FOLDER / "pipelineruns" / Path(file).name for file in templates["files"]}

    assert config["files"] == ["receiver.yaml"]
    assert {CONFIG_FOLDER / trigger.template for trigger in SETTINGS.triggers} == deployed
    for container in ALL_CONTAINERS:
        assert mounts(container)[str(CONFIG_FOLDER / "receiver.yaml")] == served[config["name"]]
        assert mounts(container)[str(CONFIG_FOLDER / "pipelineruns")] == served[templates["name"]]


def test_the_namespaces_are_those_of_the_configuration_and_of_the_runs() -> None:
    runs = read(ROOT / "k8s" / "striv" / "namespace.yaml")[0]["metadata"]["name"]
    objects = [o for path in sorted(BASE.glob("*.yaml")) if path.name != "kustomization.yaml" for o in read(path)]
    worker = [o for o in objects if o["kind"] in ("Role", "RoleBinding")]

    assert SETTINGS.cluster.namespace == runs
    assert [o["metadata"]["namespace"] for o in worker] == [runs, runs]
    namespaces = {o["metadata"].get("namespace") for o in objects if o not in worker and o["kind"] != "Namespace"}
    assert namespaces == {"striv-receiver"}


# ---------------------------------------------------------------- the pod
def test_every_container_is_restricted_and_has_a_read_only_root() -> None:
    pod = POD["securityContext"]

    assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    for container in CONTAINERS.values():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsUser"] > 0


def test_a_pod_that_names_a_group_names_a_user_too() -> None:
    # containerd refuses the pod's sandbox otherwise, whatever its containers say.
    assert POD["securityContext"]["runAsGroup"] > 0
    assert POD["securityContext"]["runAsUser"] > 0


def test_the_planes_are_different_users_of_the_group_that_owns_the_journal() -> None:
    users = {name: container["securityContext"]["runAsUser"] for name, container in CONTAINERS.items()}

    assert users["serve"] != users["work"]
    assert users["check"] == users["serve"]
    assert POD["securityContext"]["runAsGroup"] == POD["securityContext"]["fsGroup"]
    assert not [c for c in CONTAINERS.values() if "runAsGroup" in c["securityContext"]]


def test_the_cluster_token_is_mounted_in_work_only_and_the_webhook_secret_never_there() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert one(BASE / "rbac.yaml", "ServiceAccount", "receiver")["automountServiceAccountToken"] is False
    assert holders("projected") == {"work"}
    assert holders("secret") == {"serve", "check"}


def test_a_rotated_secret_reaches_the_pod() -> None:
    (mount,) = (m for m in CONTAINERS["serve"]["volumeMounts"] if m["name"] == "webhook-secrets")

    assert "subPath" not in mount
    # The folder itself, so that a key more or less in the Secret changes nothing here.
    assert [str(CONFIG_FOLDER / name) for name in SETTINGS.serve.secrets] == [mount["mountPath"]]
    assert "items" not in VOLUMES["webhook-secrets"]["secret"]


def test_services_of_the_namespace_put_nothing_into_the_environment() -> None:
    assert POD["enableServiceLinks"] is False


@pytest.mark.parametrize("container", ["journal", "serve", "work"])
def test_the_journal_lies_on_the_volume(container: str) -> None:
    file = Path(SETTINGS.journal.url.removeprefix("sqlite:///"))
    claim = VOLUMES[mounts(container)[str(file.parent)]]["persistentVolumeClaim"]["claimName"]

    assert one(BASE / "storage.yaml", "PersistentVolumeClaim", claim)
    assert CONTAINERS["journal"]["args"] == ["journal", "migrate"]
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}


def test_each_plane_has_a_tmp_of_its_own() -> None:
    assert mounts("serve")["/tmp"] != mounts("work")["/tmp"]  # noqa: S108 - the pod's


def test_the_ports_are_those_that_the_planes_listen_on() -> None:
    environment = {e["name"]: e["value"] for name in ("serve", "work") for e in CONTAINERS[name]["env"]}
    settings = load_settings(ROOT / "config" / "receiver.yaml", environment)
    service = read(BASE / "service.yaml")[0]["spec"]["ports"][0]

    ports = {p["name"]: p["containerPort"] for name in ("serve", "work") for p in CONTAINERS[name]["ports"]}
    assert service["targetPort"] == "http"
    assert settings.serve.metrics_listen
    assert settings.work.listen
    listening = {
        "http": split_address(settings.serve.listen),
        "metrics-serve": split_address(settings.serve.metrics_listen),
        "metrics-work": split_address(settings.work.listen),
    }
    # Probes and Prometheus come to the pod's address.
    assert listening == {name: ("0.0.0.0", port) for name, port in ports.items()}  # noqa: S104 - compared, not bound


def test_a_worker_that_waits_for_the_cluster_takes_no_delivery_away_from_serve() -> None:
    assert "readinessProbe" not in CONTAINERS["work"]
    assert CONTAINERS["serve"]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for container in ("serve", "work"):
        for probe in ("startupProbe", "livenessProbe"):
            assert CONTAINERS[container][probe]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("file", [BASE / "deployment.yaml", OVERLAYS / "postgresql" / "deployment.yaml"])
def test_the_planes_may_finish_what_they_began_before_they_are_killed(file: Path) -> None:
    pod = read(file)[0]["spec"]["template"]["spec"]
    pauses = [c["lifecycle"]["preStop"]["sleep"]["seconds"] for c in pod["containers"] if "lifecycle" in c]

    longest = max(SETTINGS.serve.shutdown_seconds, SETTINGS.work.shutdown_seconds)
    assert pod["terminationGracePeriodSeconds"] >= max(pauses, default=0) + longest + 5


def test_every_container_has_requests_and_a_memory_limit() -> None:
    for container in CONTAINERS.values():
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}


def test_no_container_needs_a_shell() -> None:
    overlay = read(OVERLAYS / "postgresql" / "deployment.yaml")[0]["spec"]["template"]["spec"]
    for container in (*CONTAINERS.values(), *overlay["initContainers"], *overlay["containers"]):
        assert "command" not in container


def test_one_image_runs_everywhere() -> None:
    assert len({container["image"] for container in CONTAINERS.values()}) == 1


# ---------------------------------------------------------------- rights and network
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


# ---------------------------------------------------------------- overlays
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


def test_two_replicas_share_nothing_but_the_database() -> None:
    spec = read(OVERLAYS / "postgresql" / "deployment.yaml")[0]["spec"]
    pod = spec["template"]["spec"]
    containers = {c["name"]: c for c in [*pod["initContainers"], *pod["containers"]]}
    budget = read(OVERLAYS / "postgresql" / "poddisruptionbudget.yaml")[0]["spec"]

    keys = {name: c["env"][0]["valueFrom"]["secretKeyRef"]["key"] for name, c in containers.items()}
    assert keys == {"journal": "owner-url", "serve": "serve-url", "work": "work-url"}
    assert {c["env"][0]["name"] for c in containers.values()} == {"RECEIVER__JOURNAL__URL"}
    # Each role's rights, and no more, are what `receiver journal migrate` gives to it.
    assert "--serve-role" in containers["journal"]["args"]
    assert (spec["replicas"], budget["minAvailable"]) == (2, 1)
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert "lifecycle" in containers["serve"]
    deleted = [c["volumeMounts"][0] for c in containers.values()]
    assert deleted == [{"mountPath": "/var/lib/receiver", "$patch": "delete"}] * 3
    assert pod["volumes"] == [{"name": "journal", "$patch": "delete"}]


# ---------------------------------------------------------------- the image
def test_the_base_image_has_an_exact_version_and_one_argument_replaces_it() -> None:
    default = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert default
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-bookworm", default[1])
    assert stages == ["${PYTHON_IMAGE}"] * 2


def test_the_image_is_built_from_locked_wheels_and_runs_as_nobody() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]

    assert "--no-deps --require-hashes --only-binary :all:" in DOCKERFILE
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert 'ENTRYPOINT ["receiver"]' in last
    assert f"RECEIVER_CONFIG={CONFIG_FOLDER}/receiver.yaml" in last
    assert not re.search(r"^(ADD|RUN)\b", last, re.MULTILINE)


def test_the_build_sees_only_what_it_copies() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)

    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied)
    assert [line for line in lines[1:] if fnmatch.fnmatch("receiver/__pycache__", line)]


# ---------------------------------------------------------------- the guide
def test_the_manifests_of_the_guide_lead_to_the_service() -> None:
    found = [o for block in blocks(GUIDE) if block.language == "yaml" for o in yaml.safe_load_all(block.text)]

    route = next(o for o in found if isinstance(o, dict) and o.get("kind") == "HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "Exact", "value": SETTINGS.serve.path}, "method": "POST"}]
    assert rule["backendRefs"] == [
        {"name": "receiver", "port": read(BASE / "service.yaml")[0]["spec"]["ports"][0]["port"]}
    ]
