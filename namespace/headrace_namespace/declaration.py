"""What a person declares of one mount, as a value for the place that builds its backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_namespace.backends.protocol import BackendContext
from headrace_namespace.config import Table
from headrace_namespace.mount_table import Mount

# The context is re-exported: settings make one, and the ways in do not see the backends.
__all__ = ["BackendContext", "MountDeclaration"]


@dataclass(frozen=True, slots=True)
class MountDeclaration:
    """A mount, and its store's own settings, which the backend's builder reads and closes.

    `options` is not read yet: the builder asks for its keys and calls `done`. Relative names in url
    and options are relative to `base_folder`. `written` is the table as a person wrote it, its
    variables not expanded; kept of mounts made at run time alone.
    """

    mount: Mount
    options: Table
    base_folder: str
    written: Mapping[str, object] = field(default_factory=dict[str, object])
