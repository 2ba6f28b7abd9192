"""A wrapper that counts what is asked of a store; it changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from headrace_namespace.backends.protocol import Backend, Folder, ListPage
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.metrics import Counters


class ObservedBackend:
    """Counts each request that reaches the store: `stat`, `list`, `read`, and the bytes read.

    It sits inside the retries, so that every attempt counts.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self._counters = Counters()

    def requests(self) -> Mapping[str, int]:
        """How often each operation was asked, and `read_bytes`."""
        return self._counters.values()

    @property
    def name(self) -> str:
        """As the store's."""
        return self._inner.name

    @property
    def stat_is_cheap(self) -> bool:
        """As the store's."""
        return self._inner.stat_is_cheap

    def ref(self, key: str) -> ObjectRef:
        """As the store's; no request."""
        return self._inner.ref(key)

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        """As the store's; no request."""
        return self._inner.trail(key)

    @property
    def space(self) -> str:
        """As the store's."""
        return self._inner.space

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """As the store's, counted."""
        self._counters.add("stat")
        return self._inner.stat(key)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """As the store's, counted."""
        self._counters.add("list")
        return self._inner.list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """As the store's, counted, its bytes too."""
        self._counters.add("read")
        self._inner.read_into(version, start, target)
        self._counters.add("read_bytes", len(target))

    def close(self) -> None:
        """As the store's."""
        self._inner.close()
