"""The files of one control plane that outlive the process which started it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml


def read_state(state_dir: Path) -> dict[str, Any] | None:
    """Return what `write_state` wrote, or None."""
    with suppress(FileNotFoundError):
        state: dict[str, Any] = json.loads((state_dir / "state.json").read_text())
        return state
    return None


def write_state(state_dir: Path, *, ports: Mapping[str, int], token: str, pids: Mapping[str, int]) -> None:
    """Keep what another process needs to use and stop this control plane."""
    state = {"ports": ports, "token": token, "pids": pids}
    _write_private(state_dir / "state.json", json.dumps(state, indent=1))


def write_tokens(state_dir: Path, *, token: str) -> None:
    """Write the file by which the API server knows its administrator."""
    _write_private(state_dir / "tokens.csv", f'{token},admin,admin,"system:masters"\n')


def write_kubeconfig(path: Path, *, server: str, ca_file: Path, token: str) -> None:
    """Write a kubeconfig with one user, one cluster and one context."""
    name = "striv-controlplane"
    cluster = {"server": server, "certificate-authority": str(ca_file)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
        "current-context": name,
    }
    _write_private(path, yaml.safe_dump(config, sort_keys=False))


def _write_private(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(path)
