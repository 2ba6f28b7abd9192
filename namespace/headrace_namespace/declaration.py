"""What a person declares of one mount, as a value for the place that builds its backend."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_namespace.backends.protocol import BackendContext
from headrace_namespace.config import Table
from headrace_namespace.mount_table import Mount

# The context is re-exported: settings make one, and the ways in do not see the backends.
__all__ = ["BackendContext", "MountDeclaration"]


@dataclass(frozen=True, slots=True)
class MountDeclaration:
    """A mount, and its store's own settings, which the backend's builder reads and closes.

    `options` is not read yet: the builder asks for its keys and calls `done`.
    """

    mount: Mount
    options: Table
