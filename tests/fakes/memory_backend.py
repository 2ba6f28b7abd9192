"""A store in memory that can be told to fail, to wait, and to change under a read."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from headrace_namespace.backends.protocol import Folder, Listed, ListPage
from headrace_namespace.errors import NotFolder, NotFound, VersionGone
from headrace_namespace.identity import ObjectRef, ObjectVersion


class MemoryBackend:
    """Objects by key. `before_read` runs inside every read, before the bytes are copied: it may
    raise, wait, or replace the object."""

    def __init__(self, space: str = "memory", *, page_children: int = 1000) -> None:
        self._space = space
        self.asked: Counter[str] = Counter()
        self.before_read: Callable[[ObjectVersion, int], None] | None = None
        self._page_children = page_children
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._versions = 0

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._versions += 1
            self._objects[key] = (data, self._versions)

    def delete(self, key: str) -> None:
        del self._objects[key]

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
        if key in self._objects:
            return self._version(key)
        if key == "" or any(other.startswith(key + "/") for other in self._objects):
            return Folder()
        return None

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        return (self.ref(key),)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        self.asked["list"] += 1
        key = ref.key
        if key in self._objects:
            raise NotFolder(f"{key} is an object")
        prefix = key + "/" if key else ""
        names: dict[str, ObjectVersion | None] = {}
        for other in self._objects:
            if other.startswith(prefix):
                name, slash, _ = other[len(prefix) :].partition("/")
                names[name] = None if slash else self._version(other)
        if key and not names:
            raise NotFound(f"{key} does not exist")
        start = int(token or 0)
        children = [Listed(name, version) for name, version in sorted(names.items())]
        stop = start + self._page_children
        return ListPage(tuple(children[start:stop]), str(stop) if stop < len(children) else None)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        self.asked["read"] += 1
        if self.before_read is not None:
            self.before_read(version, start)
        with self._lock:
            data, _ = self._objects.get(version.ref.key, (b"", 0))
            if version.ref.key not in self._objects or self._version(version.ref.key) != version:
                raise VersionGone(f"{version.ref} changed")
            target[:] = data[start : start + len(target)]

    def close(self) -> None:
        pass

    def _version(self, key: str) -> ObjectVersion:
        data, number = self._objects[key]
        return ObjectVersion(self.ref(key), f"v{number}", len(data), True, mtime=float(number))
