"""A folder with receiver.yaml and all that it names, as small as the settings allow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from receiver.settings import Settings, load_settings
from tests.support.pushes import REPOSITORY
from tests.support.signing import SECRET

TEMPLATE: dict[str, Any] = {
    "apiVersion": "tekton.dev/v1",
    "kind": "PipelineRun",
    "metadata": {"generateName": "striv-", "labels": {"app.kubernetes.io/name": "striv"}},
    "spec": {
        "pipelineRef": {"name": "deploy-striv"},
        "params": [
            {"name": "repo-url", "value": "https://github.com/bittrance/striv"},
            {"name": "revision", "value": ""},
            {"name": "branch", "value": ""},
            {"name": "title", "value": ""},
            {"name": "files", "value": []},
        ],
    },
}


def trigger(name: str = "striv", **fields: Any) -> dict[str, Any]:
    """Return a trigger for every branch of our repository; `fields` replaces or adds settings."""
    return {
        "name": name,
        "repository": REPOSITORY,
        "on": {"push": {"branches": ["**"]}},
        "template": "run.yaml",
        "params": {"revision": "head_sha"},
        **fields,
    }


def write_folder(
    folder: Path,
    *,
    triggers: list[dict[str, Any]] | None = None,
    secrets: Mapping[str, str] | None = None,
    template: Mapping[str, Any] | None = None,
    **sections: Mapping[str, Any],
) -> Path:
    """Write receiver.yaml, run.yaml and the secret files (name -> content, `github` by default); return receiver.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ({"github": SECRET} if secrets is None else secrets).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "run.yaml").write_text(yaml.safe_dump(dict(template or TEMPLATE), sort_keys=False), encoding="utf-8")
    content: dict[str, Any] = {
        "serve": {"secrets": ["github"], **sections.pop("serve", {})},
        "journal": {"url": f"sqlite:///{folder / 'journal.db'}", **sections.pop("journal", {})},
        **{name: dict(section) for name, section in sections.items()},
        "triggers": [trigger()] if triggers is None else triggers,
    }
    file = folder / "receiver.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def settings_in(folder: Path, **what: Any) -> Settings:
    """Write a folder and load it."""
    return load_settings(write_folder(folder, **what), {})
