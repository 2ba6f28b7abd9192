"""A wrapper that counts what is asked of a store; it changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from headrace_namespace.backends.protocol import Backend, Folder, ListPage
from headrace_namespace.backends.wrapper import WrappedBackend
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.metrics import Counters


class ObservedBackend(WrappedBackend):
    """Counts each request that reaches the store: `stat`, `list` and `read`.

    It sits inside the retries, so that every attempt counts.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._counters = Counters()

    def requests(self) -> Mapping[str, int]:
        """How often each operation was asked."""
        return self._counters.values()

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """As the store's, counted."""
        self._counters.add("stat")
        return self.inner.stat(key)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """As the store's, counted."""
        self._counters.add("list")
        return self.inner.list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """As the store's, counted."""
        self._counters.add("read")
        self.inner.read_into(version, start, target)
