"""An object written from this process, of which the node is told when it is there."""

from __future__ import annotations

from collections.abc import Callable

from headrace_cache.service import OpenWriter
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath


class NodeWriter:
    """Passes all on; tells of the change before `commit` returns."""

    def __init__(self, writer: OpenWriter, changed: Callable[[NamespacePath], None]) -> None:
        self._writer = writer
        self._changed = changed

    @property
    def path(self) -> NamespacePath:
        """The path that it is written to."""
        return self._writer.path

    @property
    def written(self) -> int:
        """Bytes written so far."""
        return self._writer.written

    def write(self, data: memoryview) -> None:
        """The next bytes."""
        self._writer.write(data)

    def finish(self) -> None:
        """Send all that was written."""
        self._writer.finish()

    def commit(self) -> ObjectVersion:
        """Let the object take its place; the version that the store gave it."""
        try:
            return self._writer.commit()
        finally:
            self._changed(self._writer.path)

    def abort(self) -> None:
        """Give it up."""
        self._writer.abort()
