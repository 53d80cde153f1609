"""What can be said of the receiver's pod without a cluster."""

from pathlib import Path

import pytest

from receiver.cli.common import split_address
from receiver.settings import load_settings
from tests.support.deployment_manifests import (
    BASE,
    CONFIG_FOLDER,
    CONTAINERS,
    DEPLOYMENT,
    OVERLAYS,
    POD,
    ROOT,
    SETTINGS,
    VOLUMES,
    holders,
    mounts,
    one,
    read,
)


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


def test_two_replicas_share_nothing_but_the_database() -> None:
    spec = read(OVERLAYS / "postgresql" / "deployment.yaml")[0]["spec"]
    pod = spec["template"]["spec"]
    containers = {c["name"]: c for c in [*pod["initContainers"], *pod["containers"]]}
    budget = read(OVERLAYS / "postgresql" / "poddisruptionbudget.yaml")[0]["spec"]

    keys = {name: c["env"][0]["valueFrom"]["secretKeyRef"]["key"] for name, c in containers.items()}
    assert keys == {"journal": "owner-url", "check": "serve-url", "serve": "serve-url", "work": "work-url"}
    assert {c["env"][0]["name"] for c in containers.values()} == {"RECEIVER__JOURNAL__URL"}
    # Each role's rights, and no more, are what `receiver journal migrate` gives to it.
    assert "--serve-role" in containers["journal"]["args"]
    assert (spec["replicas"], budget["minAvailable"]) == (2, 1)
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert "lifecycle" in containers["serve"]
    deleted = [c["volumeMounts"][0] for c in containers.values() if "volumeMounts" in c]
    assert deleted == [{"mountPath": "/var/lib/receiver", "$patch": "delete"}] * 3
    assert pod["volumes"] == [{"name": "journal", "$patch": "delete"}]
