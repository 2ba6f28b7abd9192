"""A backend that delegates everything: a wrapper is one of these that changes one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace_namespace.backends.protocol import Backend, Expected, Folder, ListPage, Upload
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectRef, ObjectVersion


class WrappedBackend:
    """Passes every call on to `inner`, as it is."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        #: See `Backend`; it never changes.
        self.stat_is_cheap = inner.stat_is_cheap

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self.inner.name

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

    def shows(self, key: str, version: ObjectVersion) -> bool:
        """See `Backend`."""
        return self.inner.shows(key, version)

    def shown_by(self, key: str) -> str | None:
        """See `Backend`."""
        return self.inner.shown_by(key)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """See `Backend`."""
        return self.inner.list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """See `Backend`."""
        self.inner.read_into(version, start, target)

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """See `Backend`."""
        return self.inner.put(ref, data, expected)

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """See `Backend`."""
        return self.inner.begin_upload(ref, expected, base)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """See `Backend`."""
        return self.inner.copy(source, ref, expected)

    def rename(self, key: str, to: ObjectRef) -> bool:
        """See `Backend`."""
        return self.inner.rename(key, to)

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """See `Backend`."""
        return self.inner.delete(keys)

    def make_folder(self, key: str) -> None:
        """See `Backend`."""
        self.inner.make_folder(key)

    def remove_folder(self, key: str) -> None:
        """See `Backend`."""
        self.inner.remove_folder(key)

    def close(self) -> None:
        """See `Backend`."""
        self.inner.close()


class WrappedUpload:
    """Passes every call on to `inner`, as it is."""

    def __init__(self, inner: Upload) -> None:
        self.inner = inner

    @property
    def parallel_parts(self) -> int:
        """See `Upload`."""
        return self.inner.parallel_parts

    def part_bytes(self, index: int) -> int:
        """See `Upload`."""
        return self.inner.part_bytes(index)

    def put_part(self, index: int, data: memoryview) -> None:
        """See `Upload`."""
        self.inner.put_part(index, data)

    def commit(self, parts: int) -> ObjectVersion:
        """See `Upload`."""
        return self.inner.commit(parts)

    def abort(self) -> None:
        """See `Upload`."""
        self.inner.abort()
