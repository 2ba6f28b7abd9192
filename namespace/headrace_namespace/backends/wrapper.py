"""A backend that delegates everything: a wrapper is one of these that changes one thing."""

from __future__ import annotations

from headrace_namespace.backends.protocol import Backend, Folder, ListPage
from headrace_namespace.identity import ObjectRef, ObjectVersion


class WrappedBackend:
    """Passes every call on to `inner`, as it is."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self.inner.name

    @property
    def stat_is_cheap(self) -> bool:
        """See `Backend`."""
        return self.inner.stat_is_cheap

    @property
    def space(self) -> str:
        """See `Backend`."""
        return self.inner.space

    def ref(self, key: str) -> ObjectRef:
        """See `Backend`."""
        return self.inner.ref(key)

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        """See `Backend`."""
        return self.inner.trail(key)

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """See `Backend`."""
        return self.inner.stat(key)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """See `Backend`."""
        return self.inner.list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """See `Backend`."""
        self.inner.read_into(version, start, target)

    def close(self) -> None:
        """See `Backend`."""
        self.inner.close()
