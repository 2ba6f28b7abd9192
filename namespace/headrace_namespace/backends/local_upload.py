"""Writing a file of this machine part by part."""

from __future__ import annotations

import threading

from headrace_namespace.backends.local_new_file import NewFile
from headrace_namespace.backends.local_writing import LocalWriter
from headrace_namespace.backends.protocol import Expected
from headrace_namespace.errors import AlreadyExists, WriteConflict
from headrace_namespace.identity import ObjectRef, ObjectVersion

#: As a fill's largest range: enough that the cost of a call does not show.
PART_BYTES = 8 << 20
#: A few threads fill the page cache faster than one; a disk gains nothing from more.
PARALLEL_PARTS = 4


class LocalUpload:
    """Parts go to their places in a file that has no name yet."""

    def __init__(
        self, writer: LocalWriter, ref: ObjectRef, expected: Expected, base: ObjectVersion | None
    ) -> None:
        self._writer = writer
        self._expected = expected
        self._base_bytes = 0 if base is None else base.size
        self._sizes: dict[int, int] = {}
        self._lock = threading.Lock()
        self._new = _begun(writer, ref, base)

    @property
    def parallel_parts(self) -> int:
        """A few."""
        return PARALLEL_PARTS

    def part_bytes(self, index: int) -> int:
        """8 MiB."""
        return PART_BYTES

    def put_part(self, index: int, data: memoryview) -> None:
        """Write it where it belongs."""
        with self._writer.errors.writing(self._new.path):
            self._new.write(data, self._base_bytes + index * PART_BYTES)
        with self._lock:
            self._sizes[index] = data.nbytes

    def commit(self, parts: int) -> ObjectVersion:
        """Make it durable, and give it its name."""
        size = self._base_bytes
        if parts:
            size += (parts - 1) * PART_BYTES + self._sizes[parts - 1]
        try:
            made = self._writer.place(self._new, size, self._expected)
        except (WriteConflict, AlreadyExists):
            self.abort()
            raise
        self.abort()
        return made

    def abort(self) -> None:
        """Let go of the file; nothing of it stays unless it got its name."""
        self._new.close()


def _begun(writer: LocalWriter, ref: ObjectRef, base: ObjectVersion | None) -> NewFile:
    if base is None:
        return writer.new_file(ref)
    with writer.opened(base) as fd:
        new = writer.new_file(ref)
        try:
            writer.begin_with(new, fd, base)
        except BaseException:
            new.close()
            raise
        return new
