"""A wrapper that counts what is asked of a store; it changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace_namespace.backends.protocol import Backend, Expected, Folder, ListPage, Upload
from headrace_namespace.backends.wrapper import WrappedBackend, WrappedUpload
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.metrics import Counters


class ObservedBackend(WrappedBackend):
    """Counts each request that reaches the store: `stat`, `list` and `read`, and of the writes
    `put`, `upload` (each part), `commit`, `copy`, `rename`, `delete` (however many keys),
    `make_folder` and `remove_folder`.

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

    def shows(self, key: str, version: ObjectVersion) -> bool:
        """As the store's, counted as a `stat`."""
        self._counters.add("stat")
        return self.inner.shows(key, version)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """As the store's, counted."""
        self._counters.add("list")
        return self.inner.list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """As the store's, counted."""
        self._counters.add("read")
        self.inner.read_into(version, start, target)

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """As the store's, counted."""
        self._counters.add("put")
        return self.inner.put(ref, data, expected)

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """As the store's, its parts and its commit counted."""
        return _ObservedUpload(self.inner.begin_upload(ref, expected, base), self._counters)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """As the store's, counted."""
        self._counters.add("copy")
        return self.inner.copy(source, ref, expected)

    def rename(self, key: str, to: ObjectRef) -> bool:
        """As the store's, counted."""
        self._counters.add("rename")
        return self.inner.rename(key, to)

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """As the store's, counted."""
        self._counters.add("delete")
        return self.inner.delete(keys)

    def make_folder(self, key: str) -> None:
        """As the store's, counted."""
        self._counters.add("make_folder")
        self.inner.make_folder(key)

    def remove_folder(self, key: str) -> None:
        """As the store's, counted."""
        self._counters.add("remove_folder")
        self.inner.remove_folder(key)


class _ObservedUpload(WrappedUpload):
    def __init__(self, inner: Upload, counters: Counters) -> None:
        super().__init__(inner)
        self._counters = counters

    def put_part(self, index: int, data: memoryview) -> None:
        self._counters.add("upload")
        self.inner.put_part(index, data)

    def commit(self, parts: int) -> ObjectVersion:
        self._counters.add("commit")
        return self.inner.commit(parts)
