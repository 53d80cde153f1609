"""How each component is called: its arguments and environment, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.controlplane.manifests import NAMESPACE, SECRET, SERVICE
from tests.controlplane.pki import Pki
from tests.controlplane.programs import Programs

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "tekton-webhook", "tekton-controller")
"""The components in the order of their start."""

PORT_NAMES = (*COMPONENTS, "etcd-peers", "tekton-webhook-probes")

# Of the default set, those that matter where there are no nodes, no volumes and no network.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program with its arguments, and what its environment has besides the usual."""

    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def all_commands(*, programs: Programs, ports: Mapping[str, int], pki: Pki, state_dir: Path) -> dict[str, Command]:
    """Return the command of every component, by name, in the order of their start."""
    return {
        "etcd": _etcd(programs, ports, state_dir),
        "kube-apiserver": _apiserver(programs, ports, pki, state_dir),
        "kube-controller-manager": _controller_manager(programs, ports, pki, state_dir),
        "tekton-webhook": _tekton_webhook(programs, ports, state_dir),
        "tekton-controller": _tekton_controller(programs, ports, state_dir),
    }


def _etcd(programs: Programs, ports: Mapping[str, int], state_dir: Path) -> Command:
    clients, peers = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "etcd-peers"))
    return Command(
        arguments=[
            str(programs["etcd"]),
            f"--data-dir={state_dir / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            # A killed process loses nothing by it, only a machine that loses power does.
            "--unsafe-no-fsync",
            # An only member has nobody to wait for.
            "--heartbeat-interval=20",
            "--election-timeout=100",
            "--log-level=warn",
        ]
    )


def _apiserver(programs: Programs, ports: Mapping[str, int], pki: Pki, state_dir: Path) -> Command:
    return Command(
        arguments=[
            str(programs["kube-apiserver"]),
            f"--etcd-servers=http://127.0.0.1:{ports['etcd']}",
            "--bind-address=127.0.0.1",
            # The default is the address of an outgoing interface, which a machine without network does not
            # have.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={ports['kube-apiserver']}",
            f"--tls-cert-file={pki.certificate}",
            f"--tls-private-key-file={pki.key}",
            f"--cert-dir={pki.folder}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki.service_account_public_key}",
            f"--service-account-signing-key-file={pki.service_account_key}",
            f"--token-auth-file={state_dir / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            "--profiling=false",
        ]
    )


def _controller_manager(programs: Programs, ports: Mapping[str, int], pki: Pki, state_dir: Path) -> Command:
    return Command(
        arguments=[
            str(programs["kube-controller-manager"]),
            f"--kubeconfig={state_dir / 'kubeconfig'}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--root-ca-file={pki.ca}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={ports['kube-controller-manager']}",
            f"--tls-cert-file={pki.certificate}",
            f"--tls-private-key-file={pki.key}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ]
    )


def _tekton_webhook(programs: Programs, ports: Mapping[str, int], state_dir: Path) -> Command:
    return Command(
        arguments=[str(programs["tekton-webhook"]), *_TEKTON_FLAGS],
        environment={
            **_tekton_environment(state_dir, probes_port=ports["tekton-webhook-probes"]),
            "CONFIG_LEADERELECTION_NAME": "config-leader-election-webhook",
            "WEBHOOK_PORT": str(ports["tekton-webhook"]),
            "WEBHOOK_SERVICE_NAME": SERVICE,
            "WEBHOOK_SECRET_NAME": SECRET,
            "WEBHOOK_ADMISSION_CONTROLLER_NAME": "webhook.pipeline.tekton.dev",
        },
    )


def _tekton_controller(programs: Programs, ports: Mapping[str, int], state_dir: Path) -> Command:
    # Mandatory; without a kubelet nothing pulls them.
    images = [f"-{flag}=tekton.invalid/{flag}:none" for flag in _IMAGE_FLAGS]
    return Command(
        arguments=[str(programs["tekton-controller"]), *_TEKTON_FLAGS, *images],
        environment={
            **_tekton_environment(state_dir, probes_port=ports["tekton-controller"]),
            "CONFIG_LEADERELECTION_NAME": "config-leader-election-controller",
        },
    )


_IMAGE_FLAGS = (
    "entrypoint-image",
    "nop-image",
    "sidecarlogresults-image",
    "workingdirinit-image",
    "shell-image",
    "shell-image-win",
)
_TEKTON_FLAGS = ("-disable-ha", "-kube-api-qps=200", "-kube-api-burst=400")


def _tekton_environment(state_dir: Path, *, probes_port: int) -> dict[str, str]:
    return {
        "KUBECONFIG": str(state_dir / "kubeconfig"),
        "SYSTEM_NAMESPACE": NAMESPACE,
        "KUBERNETES_MIN_VERSION": "v1.28.0",
        "PROBES_PORT": str(probes_port),
        "CONFIG_DEFAULTS_NAME": "config-defaults",
        "CONFIG_LOGGING_NAME": "config-logging",
        "CONFIG_OBSERVABILITY_NAME": "config-observability",
        "CONFIG_FEATURE_FLAGS_NAME": "feature-flags",
        "CONFIG_SPIRE": "config-spire",
        "CONFIG_EVENTS_NAME": "config-events",
        "CONFIG_TRACING_NAME": "config-tracing",
        "CONFIG_WAIT_EXPONENTIAL_BACKOFF_NAME": "config-wait-exponential-backoff",
    }
