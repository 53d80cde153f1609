"""Configuration: receiver.yaml and the files that it names, read once, checked, frozen.

`document` reads YAML and remembers lines; `model` says which settings there are; `load` joins file and
environment. Nothing here decides about a push: patterns and templates are compiled in `receiver.core`.
"""

from receiver.settings.load import ENVIRONMENT_PREFIX, load_settings
from receiver.settings.model import (
    ClusterSettings,
    JournalSettings,
    LogSettings,
    ParamSettings,
    PushSettings,
    ServeSettings,
    Settings,
    Template,
    TriggerSettings,
    WorkSettings,
    settings_schema,
)

__all__ = [
    "ENVIRONMENT_PREFIX",
    "ClusterSettings",
    "JournalSettings",
    "LogSettings",
    "ParamSettings",
    "PushSettings",
    "ServeSettings",
    "Settings",
    "Template",
    "TriggerSettings",
    "WorkSettings",
    "load_settings",
    "settings_schema",
]
