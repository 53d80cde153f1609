"""Which settings there are: one frozen class a section, each field with its unit, default and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from receiver.errors import SettingsError
from receiver.settings.document import Document

# `title` says in words what `pattern` does: it is what a refusal quotes.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", title="lower-case words joined by dashes")]
Repository = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", title="owner/name, such as bittrance/striv")
]
_PORT = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
Address = Annotated[
    str, Meta(pattern=rf"^(\[[0-9a-fA-F:]+\]|[^:\s]*):{_PORT}$", title="host:port, such as 127.0.0.1:8000")
]
WebhookPath = Annotated[
    str,
    Meta(
        pattern=r"^(?!/(healthz|readyz)$)/([A-Za-z0-9._~-]+/)*[A-Za-z0-9._~-]*$",
        title="the path of a URL, such as /webhook, without `//`, and neither /healthz nor /readyz",
    ),
]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Days = Annotated[float, Meta(gt=0, le=3_650)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
Namespace = Annotated[
    str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", title="the name of a Kubernetes namespace")
]
Patterns = str | list[str]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of receiver.yaml."""


class ServeSettings(_Section, frozen=True):
    """The public plane: what GitHub talks to."""

    listen: Annotated[Address, Meta(description="host:port of the webhook; IPv6 stands in brackets")] = "0.0.0.0:8000"
    metrics_listen: Annotated[
        Address | None, Meta(description="host:port of this plane's /healthz and /metrics; null: none")
    ] = "127.0.0.1:9001"
    path: Annotated[
        WebhookPath, Meta(description="the exact path of the webhook's URL; GitHub follows no redirects")
    ] = "/webhook"
    secrets: Annotated[
        list[str], Meta(description="secret files, and folders of such; any of them may sign for any repository")
    ] = []
    max_body_bytes: Annotated[
        int, Meta(ge=1_024, le=100 * 1024 * 1024, description="in bytes; larger bodies are answered 413")
    ] = 25 * 1024 * 1024
    body_timeout_seconds: Annotated[Seconds, Meta(description="in seconds; slower bodies are answered 408")] = 10.0
    shutdown_seconds: Annotated[
        Seconds, Meta(description="in seconds; time to finish what was begun, after SIGTERM")
    ] = 8.0


class WorkSettings(_Section, frozen=True):
    """The private plane: what talks to the cluster."""

    listen: Annotated[
        Address | None, Meta(description="host:port of this plane's /healthz and /metrics; null: none")
    ] = "127.0.0.1:9000"
    concurrency: Annotated[
        int, Meta(ge=1, le=256, description="how many PipelineRuns are created at the same time")
    ] = 16
    lease_seconds: Annotated[
        Seconds, Meta(description="in seconds; after this a killed worker's jobs are taken over")
    ] = 10.0
    relist_seconds: Annotated[
        Seconds, Meta(description="in seconds; how often all runs are listed, for what the watch missed")
    ] = 30.0
    give_up_days: Annotated[Days, Meta(description="in days; a job that could not start for so long is dead")] = 3.0
    prune_seconds: Annotated[Seconds, Meta(description="in seconds; how often the journal is pruned")] = 60.0
    shutdown_seconds: Annotated[
        Seconds, Meta(description="in seconds; time to finish creations that have begun, after SIGTERM")
    ] = 8.0


class JournalSettings(_Section, frozen=True):
    """What makes an acknowledged push survive."""

    url: Annotated[
        str,
        Meta(
            description="sqlite:////absolute/path/journal.db on a local disk, or postgresql+psycopg://user@host/database"
        ),
    ] = "sqlite:////var/lib/receiver/journal.db"
    replay_window_days: Annotated[
        Days, Meta(description="in days; a push never runs twice within this, older ones are answered `stale`")
    ] = 30.0
    keep_days: Annotated[Days, Meta(description="in days; finished and ignored deliveries are kept for so long")] = 14.0
    keep_count: Annotated[
        Count, Meta(description="at most so many finished and ignored deliveries are kept; dead ones stay")
    ] = 100_000
    max_stored_body_bytes: Annotated[
        int,
        Meta(
            ge=16_384,
            le=16 * 1024 * 1024,
            description="in bytes; longer payloads are kept without their lists of commits and files",
        ),
    ] = 256 * 1024

    def __repr__(self) -> str:
        # A URL of PostgreSQL may hold a password, at more than one place.
        shown = {name: getattr(self, name) for name in self.__struct_fields__} | {"url": self.url.partition(":")[0]}
        return f"JournalSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class ClusterSettings(_Section, frozen=True):
    """Where the runs live."""

    namespace: Annotated[Namespace, Meta(description="the namespace of the runs, unless a trigger names its own")] = (
        "striv-ci"
    )
    kubeconfig: Annotated[
        str | None, Meta(description="a kubeconfig file; null: the ServiceAccount of the pod we run in")
    ] = None
    context: Annotated[str | None, Meta(description="a context of that kubeconfig; null: its current one")] = None
    connect_timeout_seconds: Annotated[
        Seconds, Meta(description="in seconds, for every call: until the API server takes the connection")
    ] = 3.0
    read_timeout_seconds: Annotated[
        Seconds, Meta(description="in seconds, for every call but the watch: until the API server sends something")
    ] = 10.0


class LogSettings(_Section, frozen=True):
    """What is written to standard error."""

    format: Annotated[
        str,
        Meta(
            pattern="^(auto|json|text)$",
            title="auto, json or text",
            description="json, text, or auto: text on a terminal and JSON elsewhere",
        ),
    ] = "auto"
    level: Annotated[
        str,
        Meta(
            pattern="^(debug|info|warning|error)$",
            title="debug, info, warning or error",
            description="the least that is logged: debug, info, warning or error",
        ),
    ] = "info"


class PushSettings(
    _Section,
    frozen=True,
    rename={"branches_ignore": "branches-ignore", "tags_ignore": "tags-ignore", "paths_ignore": "paths-ignore"},
):
    """Filters in the form and with the meaning of GitHub Actions' `on: push:`."""

    branches: Annotated[Patterns | None, Meta(description="patterns of branches that run; `!` excludes again")] = None
    branches_ignore: Annotated[Patterns | None, Meta(description="patterns of branches that do not run")] = None
    tags: Annotated[Patterns | None, Meta(description="patterns of tags that run; `!` excludes again")] = None
    tags_ignore: Annotated[Patterns | None, Meta(description="patterns of tags that do not run")] = None
    paths: Annotated[
        Patterns | None, Meta(description="patterns of files; a push runs when it changes one of them")
    ] = None
    paths_ignore: Annotated[
        Patterns | None, Meta(description="patterns of files; a push that changes no others does not run")
    ] = None


class OnSettings(_Section, frozen=True, kw_only=True):
    """The events that a trigger waits for."""

    push: Annotated[PushSettings | None, Meta(description="which pushes; empty: all")]


class ParamSettings(_Section, frozen=True, rename={"source": "from"}):
    """Where a Pipeline parameter's value comes from, and what it is when that is absent."""

    source: Annotated[
        str, Meta(description="one of the receiver's names, such as head_sha, or a path into the payload, with a dot")
    ]
    default: Annotated[
        str | list[str] | dict[str, str] | None,
        Meta(description="the value where the source is empty or absent; null: such a push is refused"),
    ] = None


class TriggerSettings(_Section, frozen=True):
    """One rule: which pushes of which repository start which run."""

    name: Annotated[Name, Meta(description="unique; renamed, it lets a redelivery run again")]
    repository: Annotated[Repository, Meta(description="owner/name; case does not matter")]
    on: OnSettings
    template: Annotated[str, Meta(description="a file with a PipelineRun whose generateName has at most 9 characters")]
    params: Annotated[
        dict[str, str | ParamSettings],
        Meta(description="Pipeline parameter: source, or `{from: source, default: value}`"),
    ] = {}
    secrets: Annotated[
        list[str], Meta(description="secret files, and folders of such, that sign for this repository and for no other")
    ] = []
    namespace: Annotated[
        Namespace | None, Meta(description="the namespace of this trigger's runs; null: cluster.namespace")
    ] = None
    skip_markers: Annotated[
        bool, Meta(description="whether `[skip ci]` and its like in the head commit's message are heeded")
    ] = True
    max_active: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(description="at most so many runs at once, the others wait in the journal; null: no bound"),
    ] = None


class _File(_Section, frozen=True, kw_only=True):
    serve: ServeSettings = ServeSettings()
    work: WorkSettings = WorkSettings()
    journal: JournalSettings = JournalSettings()
    cluster: ClusterSettings = ClusterSettings()
    log: LogSettings = LogSettings()
    triggers: Annotated[
        list[TriggerSettings],
        Meta(min_length=1, description="a push may match several: each starts a run of its own"),
    ]


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
    """All settings, as they hold for this process; `overridden` maps paths such as `$.journal.url` to variables."""

    document: Document
    overridden: Mapping[str, str]
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

    def error(self, path: str, problem: str) -> SettingsError:
        """Return an error that names where the value at `path` came from: the variable, or file and line."""
        if variable := self.overridden.get(path):
            return SettingsError(f"the environment variable {variable} is not usable: {problem}")
        return self.document.error(path, problem)


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
