"""The wrappers pass every write on, count and bound it, or refuse it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from headrace_namespace.backends.limit import LimitedBackend
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.backends.protocol import Backend, There
from headrace_namespace.backends.read_only import ReadOnlyBackend
from headrace_namespace.backends.wrapper import WrappedBackend, WrappedUpload
from headrace_namespace.errors import ReadOnly, StoreTimeout
from tests.conformance.backend_suite import read, stat_object
from tests.conformance.backend_write_suite import BackendWriteSuite
from tests.conformance.writable_store import WritableStore, put, send
from tests.fakes.memory_backend import MemoryBackend
from tests.namespace.backends.test_memory import MemoryStore


class TestWrapped(BackendWriteSuite):
    """All wrappers together keep the contract."""

    @pytest.fixture
    def store(self) -> WritableStore:
        store = MemoryStore()
        store.backend = WrappedBackend(LimitedBackend(ObservedBackend(store.memory)))
        return store


def all_writes(backend: Backend) -> dict[str, Callable[[], object]]:
    """One write of each kind, on a store that holds `object` and the folder `empty`."""
    ref = backend.ref
    version = stat_object(backend, "object")
    return {
        "put": lambda: put(backend, "new", b"1"),
        "copy": lambda: backend.copy(version, ref("copy"), There.ANYTHING),
        "rename": lambda: backend.rename("object", ref("renamed")),
        "delete": lambda: backend.delete(["renamed", "copy"]),
        "make_folder": lambda: backend.make_folder("made"),
        "remove_folder": lambda: backend.remove_folder("made"),
    }


def test_each_write_is_counted() -> None:
    memory = MemoryBackend()
    memory.set("object", b"1")
    backend = ObservedBackend(memory)
    for write in all_writes(backend).values():
        write()
    upload = backend.begin_upload(backend.ref("sent"), There.ANYTHING)
    upload.commit(send(upload, bytes(memory.part_bytes + 1)))
    backend.begin_upload(backend.ref("aborted"), There.ANYTHING).abort()
    assert backend.requests() == {
        "stat": 1,
        **dict.fromkeys(all_writes(WrappedBackend(memory_with("object"))), 1),
        "upload": 2,
        "commit": 1,
    }
    assert memory.uploads == []


def memory_with(*keys: str) -> MemoryBackend:
    memory = MemoryBackend()
    for key in keys:
        memory.set(key, b"1")
    return memory


def test_each_write_waits_for_its_turn() -> None:
    memory = memory_with("object")
    backend = LimitedBackend(memory, most_requests=1, wait_seconds=0.01)
    writes = all_writes(backend)
    upload = backend.begin_upload(backend.ref("sent"), There.ANYTHING)
    writes["upload"] = lambda: upload.put_part(0, memoryview(b"1"))
    writes["commit"] = lambda: upload.commit(0)
    inside, go_on = threading.Event(), threading.Event()

    def hold(version: object, start: int) -> None:
        inside.set()
        assert go_on.wait(60)

    memory.before_read = hold
    version = memory.stat("object")
    reader = threading.Thread(target=lambda: read(backend, stat_object(memory, "object"), 0, 1))
    reader.start()
    assert inside.wait(60)
    before = dict(memory.asked)
    for name, write in writes.items():
        with pytest.raises(StoreTimeout, match="busy"):
            write()
        assert memory.asked[name] == before.get(name, 0)
    upload.abort()  # waits for nobody
    assert memory.uploads == []
    go_on.set()
    reader.join()
    assert memory.stat("object") == version
    for write in list(writes.values())[:6]:
        write()


def test_a_read_only_mount_refuses_every_write_and_names_itself() -> None:
    memory = memory_with("object")
    backend = ReadOnlyBackend(memory, "/lake")
    writes = all_writes(backend)
    writes["begin_upload"] = lambda: backend.begin_upload(backend.ref("x"), There.ANYTHING)
    for write in writes.values():
        with pytest.raises(ReadOnly, match="/lake is mounted read-only .*read_only = true") as told:
            write()
        assert told.value.store == backend.name
    assert not memory.asked.keys() - {"stat"}
    assert read(backend, stat_object(backend, "object"), 0, 1) == b"1"
    assert memory.keys == ["object"]


def test_an_upload_is_wrapped_whole() -> None:
    memory = MemoryBackend(part_bytes=7, parallel_parts=3)
    upload = WrappedUpload(memory.begin_upload(memory.ref("x"), There.ANYTHING))
    assert (upload.parallel_parts, upload.part_bytes(5)) == (3, 7)
