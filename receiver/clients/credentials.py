"""Where the API server is and who we are there: from a kubeconfig, or from a pod's ServiceAccount."""

from __future__ import annotations

from pathlib import Path

from kubernetes import client, config

from receiver.errors import SettingsError
from receiver.settings import ClusterSettings


def configuration(settings: ClusterSettings, folder: Path, connections: int) -> client.Configuration:
    """Return how to reach the API server, and as whom; raises SettingsError where that cannot be read."""
    result = client.Configuration()
    try:
        if settings.kubeconfig:
            file = folder / Path(settings.kubeconfig).expanduser()
            config.load_kube_config(config_file=str(file), context=settings.context, client_configuration=result)
        else:
            config.load_incluster_config(client_configuration=result)
    except Exception as error:
        # A malformed file makes the client stumble in every way there is.
        where = settings.kubeconfig or "this pod"
        advice = "mend that file" if settings.kubeconfig else "set cluster.kubeconfig, or run in a pod"
        problem = " ".join(str(error).split())
        raise SettingsError(f"no credentials for the cluster in {where}: {problem}; {advice}") from error
    result.keep_alive = True
    result.retries = False
    result.connection_pool_maxsize = connections
    return result
