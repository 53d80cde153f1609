"""Which settings there are: one frozen class a section, each field with its unit, default and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from receiver.settings.document import Document

Name = Annotated[
    str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", description="lower-case words joined by dashes")
]
Repository = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", description="owner/name, such as bittrance/striv")
]
_PORT = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
Address = Annotated[
    str, Meta(pattern=rf"^(\[[0-9a-fA-F:]+\]|[^:\s]*):{_PORT}$", description="host:port, such as 127.0.0.1:8000")
]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Days = Annotated[float, Meta(gt=0, le=3_650)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
Namespace = Annotated[
    str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="the name of a Kubernetes namespace")
]
Patterns = str | list[str]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of receiver.yaml."""


class ServeSettings(_Section, frozen=True):
    """The public plane: what GitHub talks to."""

    listen: Address = "0.0.0.0:8000"
    metrics_listen: Address | None = "127.0.0.1:9001"
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~/-]*$", description="the path of a URL, such as /webhook")] = (
        "/webhook"
    )
    secrets: list[str] = []
    max_body_bytes: Annotated[int, Meta(ge=1_024, le=100 * 1024 * 1024)] = 25 * 1024 * 1024
    body_timeout_seconds: Seconds = 10.0
    shutdown_seconds: Seconds = 8.0


class WorkSettings(_Section, frozen=True):
    """The private plane: what talks to the cluster."""

    listen: Address | None = "127.0.0.1:9000"
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 16
    lease_seconds: Seconds = 10.0
    relist_seconds: Seconds = 30.0
    give_up_days: Days = 3.0
    prune_seconds: Seconds = 600.0
    shutdown_seconds: Seconds = 8.0


class JournalSettings(_Section, frozen=True):
    """What makes an acknowledged push survive."""

    url: str = "sqlite:////var/lib/receiver/journal.db"
    replay_window_days: Days = 30.0
    keep_days: Days = 14.0
    keep_count: Count = 100_000
    max_stored_body_bytes: Annotated[int, Meta(ge=16_384, le=16 * 1024 * 1024)] = 256 * 1024


class ClusterSettings(_Section, frozen=True):
    """Where the runs live."""

    namespace: Namespace = "striv-ci"
    kubeconfig: str | None = None
    context: str | None = None
    connect_timeout_seconds: Seconds = 3.0
    read_timeout_seconds: Seconds = 10.0


class LogSettings(_Section, frozen=True):
    """What is written to standard error."""

    format: Annotated[str, Meta(pattern="^(auto|json|text)$", description="auto, json or text")] = "auto"
    level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")] = (
        "info"
    )


class PushSettings(
    _Section,
    frozen=True,
    rename={"branches_ignore": "branches-ignore", "tags_ignore": "tags-ignore", "paths_ignore": "paths-ignore"},
):
    """Filters in the form and with the meaning of GitHub Actions' `on: push:`."""

    branches: Patterns | None = None
    branches_ignore: Patterns | None = None
    tags: Patterns | None = None
    tags_ignore: Patterns | None = None
    paths: Patterns | None = None
    paths_ignore: Patterns | None = None


class OnSettings(_Section, frozen=True, kw_only=True):
    """The events that a trigger waits for."""

    push: PushSettings | None


class ParamSettings(_Section, frozen=True, rename={"source": "from"}):
    """Where a Pipeline parameter's value comes from, and what it is when that is absent."""

    source: str
    default: str | list[str] | dict[str, str] | None = None


class TriggerSettings(_Section, frozen=True):
    """One rule: which pushes of which repository start which run."""

    name: Name
    repository: Repository
    on: OnSettings
    template: str
    params: dict[str, str | ParamSettings] = {}
    secrets: list[str] = []
    namespace: Namespace | None = None
    skip_markers: bool = True
    max_active: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class _File(_Section, frozen=True, kw_only=True):
    serve: ServeSettings = ServeSettings()
    work: WorkSettings = WorkSettings()
    journal: JournalSettings = JournalSettings()
    cluster: ClusterSettings = ClusterSettings()
    log: LogSettings = LogSettings()
    triggers: Annotated[list[TriggerSettings], Meta(min_length=1)]


class Template(msgspec.Struct, frozen=True):
    """A PipelineRun as it lies on disk: `value` is the manifest, `document` knows its lines."""

    file: Path
    document: Document

    @property
    def value(self) -> dict[str, Any]:
        """The PipelineRun as a plain dict; never change it, copy it."""
        value: dict[str, Any] = self.document.value
        return value


class Settings(msgspec.Struct, frozen=True):
    """All settings, as they hold for this process."""

    document: Document
    folder: Path
    serve: ServeSettings
    work: WorkSettings
    journal: JournalSettings
    cluster: ClusterSettings
    log: LogSettings
    triggers: tuple[TriggerSettings, ...]
    templates: dict[str, Template]

    def path(self, name: str) -> Path:
        """Return a path of the configuration; relative ones start at receiver.yaml's folder."""
        return self.folder / Path(name).expanduser()


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of receiver.yaml, for editors."""
    (schema,), components = msgspec.json.schema_components([_File], ref_template="#/$defs/{name}")
    root = components.pop("_File")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **(root if schema.get("$ref") else schema),
        "title": "receiver.yaml",
        "$defs": components,
    }
