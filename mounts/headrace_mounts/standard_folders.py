"""Where a user's files belong by the XDG base directory rules: configuration, cache, state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from headrace_namespace.variables import home_folder


def config_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/headrace`, by default `~/.config/headrace`."""
    return _folder(environ, "XDG_CONFIG_HOME", ".config")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/headrace`, by default `~/.cache/headrace`."""
    return _folder(environ, "XDG_CACHE_HOME", ".cache")


def state_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/headrace`, by default `~/.local/state/headrace`."""
    return _folder(environ, "XDG_STATE_HOME", ".local/state")


def _folder(environ: Mapping[str, str], variable: str, default: str) -> Path:
    named = environ.get(variable, "")
    # The XDG rules say that a relative value is to be ignored.
    base = Path(named) if os.path.isabs(named) else home_folder(environ) / default
    return base / "headrace"
