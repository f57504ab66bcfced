"""Every setting: its tree, its names for users, and where its value comes from."""

from foretell.settings.keys import PREFIX, Key, walk
from foretell.settings.sources import load_settings, override, write_toml
from foretell.settings.tree import (
    AdminSettings,
    EngineSettings,
    GrpcSettings,
    HttpSettings,
    JobSettings,
    LogSettings,
    PredictSettings,
    RepositorySettings,
    Settings,
    SupervisorSettings,
    TimeoutSettings,
)

__all__ = [
    "PREFIX",
    "AdminSettings",
    "EngineSettings",
    "GrpcSettings",
    "HttpSettings",
    "JobSettings",
    "Key",
    "LogSettings",
    "PredictSettings",
    "RepositorySettings",
    "Settings",
    "SupervisorSettings",
    "TimeoutSettings",
    "load_settings",
    "override",
    "walk",
    "write_toml",
]
