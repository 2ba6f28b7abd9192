"""A wrapper that bounds how many requests a store gets at once; it changes nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from headrace_namespace.backends.protocol import Backend, Expected, Folder, ListPage, Upload
from headrace_namespace.backends.wrapper import WrappedBackend, WrappedUpload
from headrace_namespace.errors import HeadraceError, StoreTimeout
from headrace_namespace.identity import ObjectRef, ObjectVersion

#: Enough streams of 8 MiB to fill 25 Gbit/s at 30 ms; each costs the store a thread.
MOST_REQUESTS = 32
#: Several large ranges' time at full load; who waits longer waits for a store that stands still.
WAIT_SECONDS = 60.0


class LimitedBackend(WrappedBackend):
    """Lets at most `most_requests` reach the store at once; the others wait, a bounded time.

    Raises StoreTimeout for those that waited `wait_seconds` in vain. It belongs inside the retries,
    so that a pause between attempts holds nobody up.
    """

    def __init__(
        self,
        inner: Backend,
        most_requests: int = MOST_REQUESTS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        super().__init__(inner)
        self._most = most_requests
        self._wait_seconds = wait_seconds
        self._renew()

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """As the store's, in its turn."""
        with self._slot():
            return self.inner.stat(key)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """As the store's, in its turn."""
        with self._slot():
            return self.inner.list_page(ref, token)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """As the store's, in its turn."""
        with self._slot():
            self.inner.read_into(version, start, target)

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """As the store's, in its turn."""
        with self._slot():
            return self.inner.put(ref, data, expected)

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """As the store's, in its turn; so are its parts and its end."""
        with self._slot():
            begun = self.inner.begin_upload(ref, expected, base)
        return _LimitedUpload(begun, self._slot)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """As the store's, in its turn."""
        with self._slot():
            return self.inner.copy(source, ref, expected)

    def rename(self, key: str, to: ObjectRef) -> bool:
        """As the store's, in its turn."""
        with self._slot():
            return self.inner.rename(key, to)

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """As the store's, in its turn."""
        with self._slot():
            return self.inner.delete(keys)

    def make_folder(self, key: str) -> None:
        """As the store's, in its turn."""
        with self._slot():
            self.inner.make_folder(key)

    def remove_folder(self, key: str) -> None:
        """As the store's, in its turn."""
        with self._slot():
            self.inner.remove_folder(key)

    def _renew(self) -> None:
        self._slots = threading.BoundedSemaphore(self._most)
        self._pid = os.getpid()

    @contextmanager
    def _slot(self) -> Generator[None]:
        if os.getpid() != self._pid:
            self._renew()  # a forked child: the threads that held slots are not here
        slots = self._slots
        if not slots.acquire(timeout=self._wait_seconds):
            raise StoreTimeout(
                f"{self.name} is busy with {self._most} requests of this process, and none ended "
                f"within {self._wait_seconds:g} s",
                store=self.name,
            )
        try:
            yield
        finally:
            slots.release()


class _LimitedUpload(WrappedUpload):
    def __init__(self, inner: Upload, slot: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(inner)
        self._slot = slot

    def put_part(self, index: int, data: memoryview) -> None:
        with self._slot():
            self.inner.put_part(index, data)

    def commit(self, parts: int) -> ObjectVersion:
        with self._slot():
            return self.inner.commit(parts)

    # `abort` takes no turn: it must not fail, and makes room at the store.
