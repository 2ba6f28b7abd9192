"""A store that tests write to through its backend, and what they write with."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

from headrace_namespace.backends.protocol import Backend, Expected, There, Upload
from headrace_namespace.backends.retry import RetryingBackend, RetryPolicy
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectVersion
from tests.conformance.backend_suite import Store, read, stat_object
from tests.fakes.clock import ManualClock


class WritableStore(Store):
    """A store whose backend is written, too."""

    #: Whether of racing conditional puts exactly one is made.
    atomic = True
    #: Whether the same is true of uploads.
    atomic_uploads = True
    #: Whether names can be changed in one step.
    renames = True
    #: Whether a name can be a folder and an object at once.
    folders_are_objects = False

    @abstractmethod
    def unfinished(self) -> list[str]:
        """What the store holds of writes that are not whole."""


def put(
    backend: Backend, key: str, data: bytes, expected: Expected = There.ANYTHING
) -> ObjectVersion:
    return backend.put(backend.ref(key), memoryview(data), expected)


def content(backend: Backend, key: str) -> bytes:
    version = stat_object(backend, key)
    return read(backend, version, 0, version.size)


def send(upload: Upload, data: bytes) -> int:
    """Put all of `data` as parts, in order; how many there were."""
    parts = start = 0
    while start < len(data):
        stop = min(len(data), start + upload.part_bytes(parts))
        upload.put_part(parts, memoryview(data)[start:stop])
        parts, start = parts + 1, stop
    return parts


def patient(backend: Backend) -> Backend:
    """As a mount uses it: a store may fail on its own side where writers race (Ceph does)."""
    return RetryingBackend(backend, ManualClock(), RetryPolicy(), Random(0))


def race(runners: list[Callable[[], object]]) -> list[object]:
    """What came of calls made at once: their results or errors."""
    barrier = threading.Barrier(len(runners))

    def run(runner: Callable[[], object]) -> object:
        barrier.wait(60)
        try:
            return runner()
        except HeadraceError as error:
            return error

    with ThreadPoolExecutor(len(runners)) as pool:
        return list(pool.map(run, runners))
