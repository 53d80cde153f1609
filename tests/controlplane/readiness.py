"""What makes each component ready: asked of it or of the API server, never guessed from time."""

from collections.abc import Callable, Mapping

import requests

from tests.controlplane.api import Api, ApiError

# Each of Tekton's processes listens there too, whatever it is told, and goes on without it when the port is
# taken.
KNATIVE_PORT = 8080


class Readiness:
    """The readiness of one control plane's components."""

    def __init__(self, *, api: Api, ports: Mapping[str, int], log: Callable[[str], str]) -> None:
        """Take the administrator's API, the components' ports, and how to read what a component logged."""
        self._api = api
        self._ports = ports
        self._log = log
        self._probes: dict[str, Callable[[], bool]] = {
            "etcd": self._etcd,
            "kube-apiserver": self._apiserver,
            "kube-controller-manager": self._controller_manager,
            "tekton-webhook": self._tekton_webhook,
            "tekton-controller": self._tekton_controller,
        }

    def ready(self, name: str) -> bool:
        """Tell whether a component does its work now; a refusal or no answer is a no."""
        try:
            return self._probes[name]()
        except (requests.RequestException, ApiError):
            return False

    def _etcd(self) -> bool:
        return requests.get(f"http://127.0.0.1:{self._ports['etcd']}/readyz", timeout=5).ok

    def _apiserver(self) -> bool:
        return bool(self._api.request("GET", "/readyz"))

    def _controller_manager(self) -> bool:
        # It answers health checks before its controllers work; of their works this is the first that can be
        # seen.
        health = f"https://127.0.0.1:{self._ports['kube-controller-manager']}/healthz"
        return requests.get(health, timeout=5, verify=str(self._api.ca_file)).ok and self._api.exists(
            "v1", "ServiceAccount", "default", namespace="default"
        )

    def _tekton_controller(self) -> bool:
        # Its health port answers from the first moment; this line comes when its caches are full and it
        # works.
        return f"Probes server listening on port {KNATIVE_PORT}" in self._log("tekton-controller")

    def _tekton_webhook(self) -> bool:
        # A conversion, defaults and a refusal: the API server knows of all three hooks when it gives these
        # answers.
        run = {
            "metadata": {"name": "probe"},
            "spec": {"pipelineRef": {"name": "probe"}},
            "kind": "PipelineRun",
        }
        defaulted = self._api.create(run | {"apiVersion": "tekton.dev/v1beta1"}, dry_run=True)
        if defaulted["spec"].get("serviceAccountName") != "default":
            return False
        too_long = {"apiVersion": "tekton.dev/v1", "metadata": {"name": "x" * 64}}
        try:
            self._api.create(run | too_long, dry_run=True)
        except ApiError as error:
            return "denied the request" in error.message
        return False
