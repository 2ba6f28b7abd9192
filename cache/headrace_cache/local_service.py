"""The cache in the caller's own process: `CacheService` without a daemon.

A forked child shares its parent's memory but none of its threads, and must not touch its index or
sockets. So after a fork all parts are put away and built anew at the child's first use; objects
that were open go on, from what their mappings hold and then from the new parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace_cache.extent_store import ExtentStore
from headrace_cache.open_object import OpenObject
from headrace_cache.reader import Reader
from headrace_cache.service import PolicyExplanation, Status
from headrace_namespace.entry import Entry
from headrace_namespace.errors import ConfigError
from headrace_namespace.freshness import Freshness
from headrace_namespace.metrics import BYTES_FETCHED, BYTES_SERVED, HITS, MISSES, Counters
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a service is made of, built together by `opening`."""

    reader: Reader
    store: ExtentStore
    namespace: Namespace
    launcher: Offload
    counters: Counters


class LocalService:
    """The tree, read through a cache in this process. Safe to use from many threads and forks."""

    def __init__(self, build: Callable[[], Parts]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._closed = False
        self._parts: Parts | None = build()

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return not self._closed

    def reader(self) -> Reader:
        """The reader to use now; in a forked child, another than the parent's."""
        return self._now().reader

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is."""
        return self.reader().stat(path, freshness)

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder, streamed."""
        return self.reader().list(path)

    def open(self, path: NamespacePath, freshness: Freshness | None = None) -> OpenObject:
        """The object, its version pinned."""
        return OpenObject(self, self.reader().pin(path, freshness))

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and why."""
        return self.reader().explain(path)

    def mounts(self) -> Sequence[Mount]:
        """The mount table."""
        return self._now().namespace.mounts

    def status(self) -> Status:
        """What the cache holds and has done."""
        parts = self._now()
        counted = parts.counters.values()
        return Status(
            tiers=parts.store.usage(),
            hits=counted.get(HITS, 0),
            misses=counted.get(MISSES, 0),
            bytes_fetched=counted.get(BYTES_FETCHED, 0),
            bytes_served=counted.get(BYTES_SERVED, 0),
            requests=parts.namespace.requests(),
        )

    def flush(self) -> None:
        """Return when the next process will find warm what was read and may be kept."""
        self._now().store.flush()

    def close(self) -> None:
        """Flush, and let go of memory, files and connections."""
        with self._lock:
            parts, self._parts, self._closed = self._parts, None, True
        if parts is not None:
            parts.launcher.close()
            parts.namespace.close()
            parts.store.close()

    def after_fork_in_child(self) -> None:
        """Put the parent's parts away; called in the child before anything else runs."""
        parts, self._parts = self._parts, None
        self._lock = threading.Lock()
        if parts is not None:
            parts.store.abandon_in_child()

    def _now(self) -> Parts:
        parts = self._parts
        if parts is not None:
            return parts
        with self._lock:
            if self._closed:
                raise ConfigError("this headrace service was closed", hint="connect again")
            if self._parts is None:
                self._parts = self._build()
            return self._parts
