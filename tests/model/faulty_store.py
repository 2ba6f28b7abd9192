"""A store that does to its next requests what it is told: fails, answers in part, lies, waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from headrace_namespace.backends.protocol import Folder, ListPage
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.errors import (
    AccessRefused,
    HeadraceError,
    StoreAnswerWrong,
    StoreTimeout,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.memory_backend import MemoryBackend

#: What may be wrong with any request.
ERRORS: Mapping[str, Callable[[], HeadraceError]] = {
    "unavailable": lambda: StoreUnavailable("the connection was lost"),
    "timeout": lambda: StoreTimeout("it did not answer"),
    "slow down": lambda: SlowDown("too many requests", wait_seconds=1.0),
    "refused": lambda: AccessRefused("no"),
    "wrong answer": lambda: StoreAnswerWrong("nonsense"),
}
#: What may be wrong with the bytes of a read. All of them were noticed by the backend, as its
#: protocol demands: what the target holds then is anything.
BODIES = ("short body", "long body", "another version's body", "replaced under the read")
#: What may be wrong with a stat: the size, or that the answer is old when it arrives.
STATS = ("wrong size", "replaced after")
READS = ("stat", "list", "read")
#: Operations that change something; each may also be made and its answer lost.
WRITES = ("put", "upload", "commit", "copy", "rename", "delete")


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of the next request of this operation."""

    operation: str
    kind: str


class Stall:
    """One read that waits inside the store until it is told to go on."""

    def __init__(self) -> None:
        #: Told "entered" by the store; whoever waits may be told other words by others.
        self.told: SimpleQueue[str] = SimpleQueue()
        self.go_on = threading.Event()

    def enter(self) -> None:
        self.told.put("entered")
        if not self.go_on.wait(60):
            raise AssertionError("nobody told a stalled read to go on")


class FaultyStore(MemoryBackend):
    """A store with a list of what goes wrong next; `fired` are the faults that came true."""

    def __init__(
        self,
        space: str,
        changed: Callable[[ObjectRef, ObjectVersion | None, bytes], None],
        part_bytes: int,
    ) -> None:
        super().__init__(space, page_children=3, part_bytes=part_bytes, parallel_parts=2)
        self.armed: list[Fault] = []
        self.fired: list[Fault] = []
        #: How many ever came true: those of parts that are sent meanwhile are told later.
        self.ever_fired = 0
        self.stall: Stall | None = None
        #: Replaces an object behind everybody's back: for faults that do.
        self.replace: Callable[[FaultyStore, str], None] = lambda _, __: None
        #: Versions that never were: what stats with a wrong size told.
        self.lies: set[ObjectVersion] = set()
        self._told = changed
        self._faults = threading.Lock()
        self.before_write = self._before_write
        self.after_write = self._after_write

    def set(self, key: str, data: bytes) -> ObjectVersion:
        version = super().set(key, data)
        self._told(version.ref, version, data)
        return version

    def remove(self, key: str) -> None:
        super().remove(key)
        self._told(self.ref(key), None, b"")

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        before = set(self.keys)
        try:
            return super().delete(keys)
        finally:
            for key in sorted(before.difference(self.keys)):
                self._told(self.ref(key), None, b"")

    def rename(self, key: str, to: ObjectRef) -> bool:
        before = set(self.keys)
        try:
            return super().rename(key, to)
        finally:
            for gone in sorted(before.difference(self.keys)):
                self._told(self.ref(gone), None, b"")

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        fault = self._take("stat")
        self._fail(fault)
        found = super().stat(key)
        if isinstance(found, ObjectVersion):
            if fault == "wrong size":
                found = ObjectVersion(found.ref, found.tag, found.size + 5, True)
                self.lies.add(found)
            elif fault == "replaced after":
                self.replace(self, key)
        return found

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        self._fail(self._take("list"))
        return super().list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        with self._faults:
            stall, self.stall = self.stall, None
        if stall is not None:
            stall.enter()
        fault = self._take("read")
        self._fail(fault)
        if fault is None or fault not in BODIES:
            super().read_into(version, start, target)
            return
        if fault == "another version's body":
            target[:] = bytes(len(target))
            raise VersionGone("the body was another version's")
        super().read_into(version, start, target)
        if fault == "short body":
            target[len(target) // 2 :] = b"\xff" * (len(target) - len(target) // 2)
            raise StoreUnavailable("the body ended early")
        if fault == "replaced under the read":
            self.replace(self, version.ref.key)
            target[len(target) // 2 :] = b"\xee" * (len(target) - len(target) // 2)
            raise VersionGone("it was replaced under the read")
        raise StoreAnswerWrong("the body is longer than was asked for")

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.armed.clear()

    def _take(self, *operations: str) -> str | None:
        with self._faults:
            for fault in self.armed:
                if fault.operation in operations:
                    self.armed.remove(fault)
                    self.fired.append(fault)
                    self.ever_fired += 1
                    return fault.kind
        return None

    def _fail(self, kind: str | None) -> None:
        if kind is not None and kind in ERRORS:
            raise ERRORS[kind]()

    def _before_write(self, operation: str, key: str) -> None:
        self._fail(self._take(operation))

    def _after_write(self, operation: str, key: str) -> None:
        if self._take(f"{operation}, its answer lost") is not None:
            raise StoreUnavailable("the answer was lost")
