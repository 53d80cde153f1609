"""Find or build what k8s/monitoring is checked with: promtool, and the CRDs of prometheus-operator.

The pinned versions stand in prometheus/go.mod and prometheus-operator/go.mod beside this file and nowhere else.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.programs import (
    HERE,
    ProgramsError,
    cache_root,
    compile_program,
    exclusive,
    find_go,
    required_version,
)

PROMETHEUS, OPERATOR = "github.com/prometheus/prometheus", "github.com/prometheus-operator/prometheus-operator"
CRDS = ("monitoring.coreos.com_podmonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Where promtool is, and the folder with the CRDs."""

    promtool: Path
    crds: Path


def cache_dir() -> Path:
    """Return the cache folder of the pinned versions (it may not exist yet)."""
    prometheus = required_version("prometheus", PROMETHEUS)
    operator = required_version("prometheus-operator", OPERATOR)
    return cache_root() / "monitoring" / f"prometheus-{prometheus}_operator-{operator}"


def find() -> Tools | None:
    """Return the tools when all of them are in the cache, without building anything."""
    promtool, crds = cache_dir() / "bin" / "promtool", cache_dir() / "crds"
    built = promtool.is_file() and os.access(promtool, os.X_OK)
    return Tools(promtool=promtool, crds=crds) if built and crds.is_dir() else None


def ensure() -> Tools:
    """Return the tools, building promtool (about two minutes) and fetching the CRDs when they are missing.

    Safe to call from several processes at once. Raises ProgramsError when Go is missing, too old, or a build fails.
    """
    if tools := find():
        return tools
    with exclusive(cache_dir(), busy="another process is building promtool; waiting for it"):
        if find() is None:
            go = find_go()
            if not (cache_dir() / "crds").is_dir():
                _copy_crds(go)
            # Without the discovery of targets in a dozen clouds, which checks of rules do not need.
            flags = ["-tags", "remove_all_sd", "-ldflags", "-s -w"]
            package, target = f"{PROMETHEUS}/cmd/promtool", cache_dir() / "bin" / "promtool"
            compile_program(go, package, target, folder="prometheus", flags=flags, label="promtool")
    if tools := find():
        return tools
    raise ProgramsError(f"promtool was built, but something is missing in {cache_dir()}; remove it and try again")


def _copy_crds(go: str) -> None:
    """Keep the CRDs that k8s/monitoring needs, out of the operator's own module."""
    command = [go, "mod", "download", "-json", OPERATOR]
    answer = subprocess.run(
        command, check=False, cwd=HERE / "prometheus-operator", capture_output=True, text=True, timeout=300
    )
    if answer.returncode:
        raise ProgramsError(f"the CRDs cannot be fetched: {' '.join(command)}\n{answer.stdout}{answer.stderr}")
    source = Path(json.loads(answer.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    unfinished = cache_dir() / "crds.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in CRDS:
        # Read and written, since files of Go's module cache are read-only.
        (unfinished / name).write_text((source / name).read_text())
    unfinished.replace(cache_dir() / "crds")
