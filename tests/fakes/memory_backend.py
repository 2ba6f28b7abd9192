"""A store in memory that can be told to fail, to wait, and to change under a read or a write."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from headrace_namespace.backends.protocol import Expected, Folder, Listed, ListPage, There
from headrace_namespace.errors import (
    AlreadyExists,
    FolderNotEmpty,
    HeadraceError,
    IsFolder,
    NotFolder,
    NotFound,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion

#: What the hooks of a write are told: the operation (`put`, `upload` for a part, `commit`, `copy`,
#: `rename`, `delete`, `make_folder`, `remove_folder`), and the key.
WriteHook = Callable[[str, str], None]


class MemoryBackend:
    """Objects by key. `before_read` runs inside every read, before the bytes are copied: it may
    raise, wait, or replace the object. `before_write` and `after_write` run around every write, and
    may do the same: what `after_write` raises is an answer that was lost."""

    def __init__(
        self,
        space: str = "memory",
        *,
        page_children: int = 1000,
        part_bytes: int = 1 << 20,
        parallel_parts: int = 4,
        can_rename: bool = True,
    ) -> None:
        self._space = space
        self.asked: Counter[str] = Counter()
        self.before_read: Callable[[ObjectVersion, int], None] | None = None
        self.before_write: WriteHook | None = None
        self.after_write: WriteHook | None = None
        self.part_bytes = part_bytes
        self.parallel_parts = parallel_parts
        #: Uploads begun and neither committed nor aborted.
        self.uploads: list[MemoryUpload] = []
        self._upload_over = threading.Condition()
        self._page_children = page_children
        self._can_rename = can_rename
        self._lock = threading.RLock()
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._folders: set[str] = set()
        self._versions = 0

    def set(self, key: str, data: bytes) -> ObjectVersion:
        """Make or replace an object behind everybody's back."""
        with self._lock:
            self._versions += 1
            self._objects[key] = (data, self._versions)
            return self._version(key)

    def remove(self, key: str) -> None:
        """Delete an object behind everybody's back."""
        with self._lock:
            del self._objects[key]

    def data(self, key: str) -> bytes:
        """What an object holds now."""
        return self._objects[key][0]

    @property
    def keys(self) -> list[str]:
        """The keys of all objects."""
        return sorted(self._objects)

    @property
    def name(self) -> str:
        return self.space

    @property
    def stat_is_cheap(self) -> bool:
        return False

    def ref(self, key: str) -> ObjectRef:
        return ObjectRef(self.space, key)

    @property
    def space(self) -> str:
        return self._space

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        self.asked["stat"] += 1
        with self._lock:
            if key in self._objects:
                return self._version(key)
            return Folder() if self._is_folder(key) else None

    def shows(self, key: str, version: ObjectVersion) -> bool:
        return False

    def shown_by(self, key: str) -> None:
        return None

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        return (self.ref(key),)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        self.asked["list"] += 1
        with self._lock:
            names = self._children(ref.key)
        start = int(token or 0)
        children = [Listed(name, version) for name, version in sorted(names.items())]
        stop = start + self._page_children
        return ListPage(tuple(children[start:stop]), str(stop) if stop < len(children) else None)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        self.asked["read"] += 1
        if self.before_read is not None:
            self.before_read(version, start)
        target[:] = self._bytes_of(version)[start : start + len(target)]

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        return self.place("put", ref, bytes(data), expected)

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> MemoryUpload:
        upload = MemoryUpload(self, ref, expected, b"" if base is None else self._bytes_of(base))
        self.uploads.append(upload)
        return upload

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        data = self._bytes_of(source)
        return self.place("copy", ref, data, expected)

    def rename(self, key: str, to: ObjectRef) -> bool:
        self.begin("rename", key)
        if not self._can_rename:
            return False
        with self._lock:
            found, there = self._kind(key), self._kind(to.key)
            if found is None:
                raise NotFound(f"{key} does not exist")
            if found == "object" and there == "folder":
                raise IsFolder(f"{to.key} is a folder")
            if found == "folder" and there == "object":
                raise NotFolder(f"{to.key} is an object")
            if found == "folder" and there == "folder" and key != to.key:
                self._refuse_filled(to.key)
            self._rename(key, to.key)
        self.end("rename", key)
        return True

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        wrong: dict[str, HeadraceError] = {}
        self.begin("delete", keys[0] if keys else "")
        for key in keys:
            with self._lock:
                if key not in self._objects and self._is_folder(key):
                    wrong[key] = IsFolder(f"{key} is a folder")
                self._objects.pop(key, None)
        self.end("delete", keys[0] if keys else "")
        return wrong

    def make_folder(self, key: str) -> None:
        self.begin("make_folder", key)
        with self._lock:
            if self._kind(key) is not None:
                raise AlreadyExists(f"{key} exists already")
            self._folders.add(key)
        self.end("make_folder", key)

    def remove_folder(self, key: str) -> None:
        self.begin("remove_folder", key)
        with self._lock:
            kind = self._kind(key)
            if kind is None:
                raise NotFound(f"{key} does not exist")
            if kind == "object":
                raise NotFolder(f"{key} is an object")
            self._refuse_filled(key)
            self._folders.discard(key)
        self.end("remove_folder", key)

    def close(self) -> None:
        pass

    def begin(self, operation: str, key: str) -> None:
        """A write is asked for."""
        self.asked[operation] += 1
        if self.before_write is not None:
            self.before_write(operation, key)

    def end(self, operation: str, key: str) -> None:
        """A write was made."""
        if self.after_write is not None:
            self.after_write(operation, key)

    def end_upload(self, upload: MemoryUpload) -> None:
        """It is no more, if it was."""
        with self._upload_over:
            if upload in self.uploads:
                self.uploads.remove(upload)
            self._upload_over.notify_all()

    def wait_for_uploads(self) -> None:
        """Return when no upload is left, or after ten seconds: some are aborted behind."""
        with self._upload_over:
            self._upload_over.wait_for(lambda: not self.uploads, 10)

    def place(
        self,
        operation: str,
        ref: ObjectRef,
        data: bytes,
        expected: Expected,
        note: list[ObjectVersion] | None = None,
    ) -> ObjectVersion:
        """Let an object take its place, if its condition holds; `note` is told as it is done."""
        self.begin(operation, ref.key)
        with self._lock:
            self._check(ref.key, expected)
            made = self.set(ref.key, data)
            if note is not None:
                note.append(made)
        self.end(operation, ref.key)
        return made

    def _check(self, key: str, expected: Expected) -> None:
        if key not in self._objects and self._is_folder(key):
            raise IsFolder(f"{key} is a folder")
        found = self._version(key) if key in self._objects else None
        conflict: AlreadyExists | WriteConflict
        if expected is There.NOTHING and found is not None:
            conflict = AlreadyExists(f"{key} exists already")
        elif isinstance(expected, ObjectVersion) and found != expected:
            conflict = WriteConflict(f"{key} was replaced")
        else:
            return
        conflict.found = found
        raise conflict

    def _bytes_of(self, version: ObjectVersion) -> bytes:
        key = version.ref.key
        with self._lock:
            if key not in self._objects or self._version(key) != version:
                raise VersionGone(f"{version.ref} changed")
            return self._objects[key][0]

    def _version(self, key: str) -> ObjectVersion:
        data, number = self._objects[key]
        return ObjectVersion(self.ref(key), f"v{number}", len(data), True, mtime=float(number))

    def _kind(self, key: str) -> str | None:
        if key in self._objects:
            return "object"
        return "folder" if self._is_folder(key) else None

    def _is_folder(self, key: str) -> bool:
        below = key + "/"
        return (
            key == ""
            or key in self._folders
            or any(other.startswith(below) for other in (*self._objects, *self._folders))
        )

    def _children(self, key: str) -> dict[str, ObjectVersion | None]:
        if key in self._objects:
            raise NotFolder(f"{key} is an object")
        if not self._is_folder(key):
            raise NotFound(f"{key} does not exist")
        prefix = key + "/" if key else ""
        names: dict[str, ObjectVersion | None] = {}
        for other in self._folders:
            if other.startswith(prefix):
                names[other[len(prefix) :].partition("/")[0]] = None
        for other in self._objects:
            if other.startswith(prefix):
                name, slash, _ = other[len(prefix) :].partition("/")
                names[name] = None if slash else self._version(other)
        return names

    def _refuse_filled(self, key: str) -> None:
        if self._children(key):
            raise FolderNotEmpty(f"{key} is not empty")

    def _rename(self, key: str, to: str) -> None:
        for old in list(self._objects):
            if old == key or old.startswith(key + "/"):
                data, _ = self._objects.pop(old)
                self.set(to + old[len(key) :], data)
        for old in list(self._folders):
            if old == key or old.startswith(key + "/"):
                self._folders.discard(old)
                self._folders.add(to + old[len(key) :])


class MemoryUpload:
    """Parts in a dict, until they take their place."""

    def __init__(
        self, backend: MemoryBackend, ref: ObjectRef, expected: Expected, base: bytes
    ) -> None:
        self.parts: dict[int, bytes] = {}
        #: What a commit made whose answer may have been lost.
        self._made: list[ObjectVersion] = []
        self._backend = backend
        self._ref = ref
        self._expected = expected
        self._base = base

    @property
    def parallel_parts(self) -> int:
        return self._backend.parallel_parts

    def part_bytes(self, index: int) -> int:
        return self._backend.part_bytes

    def put_part(self, index: int, data: memoryview) -> None:
        assert 0 < len(data) <= self.part_bytes(index), "a part of a wrong length"
        self._backend.begin("upload", self._ref.key)
        self.parts[index] = bytes(data)
        self._backend.end("upload", self._ref.key)

    def commit(self, parts: int) -> ObjectVersion:
        assert set(range(parts)) <= self.parts.keys(), "not all parts were put"
        assert all(len(self.parts[index]) == self.part_bytes(index) for index in range(parts - 1))
        data = self._base + b"".join(self.parts[index] for index in range(parts))
        if not self._made:
            try:
                self._backend.place("commit", self._ref, data, self._expected, self._made)
            except (WriteConflict, AlreadyExists):
                self.abort()
                raise
        self.abort()
        return self._made[0]

    def abort(self) -> None:
        self._backend.end_upload(self)
