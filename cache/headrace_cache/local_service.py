"""The cache in the caller's own process: `CacheService` without a daemon.

A forked child shares its parent's memory but none of its threads, and must not touch its index or
sockets. So after a fork all parts are put away and built anew at the child's first use; objects
that were open go on from the new parts, judged by the policy of then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from headrace_cache.extents.extent_store import ExtentStore
from headrace_cache.holding import Holding
from headrace_cache.node_facts import PolicyFacts
from headrace_cache.policy.audience import Principal
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.policy.purging import Purging
from headrace_cache.policy.watch import Patrol
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.reading.reader import Reader
from headrace_cache.service import OpenWriter, Purge, Status, Totals, Why
from headrace_cache.totals import TotalsKeeper
from headrace_cache.writing.writer import Writer
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.entry import Entry
from headrace_namespace.errors import ConfigError, HeadraceError, NotFound
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.metadata.ledger import Ledger
from headrace_namespace.metrics import BYTES_FETCHED, BYTES_SERVED, HITS, MISSES, Counters
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.standing import Standing


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a service is made of, built together by `opening`."""

    reader: Reader
    store: ExtentStore
    namespace: Namespace
    launcher: Offload
    counters: Counters
    writer: Writer
    ledger: Ledger
    totals: TotalsKeeper
    purging: Purging
    patrol: Patrol

    def seen_by(self, principal: Principal) -> Parts:
        """The same, as somebody else may use it."""
        reader = self.reader.seen_by(principal)
        return replace(self, reader=reader, writer=self.writer.beside(reader))


class LocalService:
    """The tree, read through a cache in this process. Safe to use from many threads and forks."""

    def __init__(self, build: Callable[[], Parts], *, owner: bool = True) -> None:
        """`owner`: whether the parts are this service's, and end with it."""
        self._build = build
        self._owner = owner
        self._lock = threading.Lock()
        self._closed = False
        self._parts: Parts | None = build()

    def seen_by(self, principal: Principal) -> LocalService:
        """This service as somebody else may use it: the policy is asked for him. Closing it ends
        nothing of this one."""
        return LocalService(lambda: self._now().seen_by(principal), owner=False)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return not self._closed

    @property
    def authority(self) -> None:
        """It is this host's tree."""
        return None

    def reader(self) -> Reader:
        """The reader to use now; in a forked child, another than the parent's."""
        parts = self._parts
        return parts.reader if parts is not None else self._now().reader

    def store(self) -> ExtentStore:
        """What keeps pages, now."""
        return self._now().store

    def holding(self) -> Holding:
        """What looks after what is held, now."""
        parts = self._now()
        return Holding(parts.reader, parts.store, self._purges)

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is."""
        return self.reader().stat(path, freshness)

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder, streamed."""
        return self.reader().list(path)

    def open(self, path: NamespacePath, freshness: Freshness | None = None) -> OpenObject:
        """The object, its version pinned."""
        parts = self._now()
        parts.totals.add_if_due()
        reader = parts.reader
        return OpenObject(self, reader, *reader.open(path, freshness))

    def open_unasked(self, path: NamespacePath) -> tuple[OpenObject, Standing | None] | None:
        """As `open`, where no remote store is asked for it; else None. With it, for how long a
        listing stands in for it, where one did."""
        reader = self.reader()
        opened = reader.open_unasked(path)
        if opened is None:
            return None
        pinned, held, listed = opened
        return OpenObject(self, reader, pinned, held), listed

    def mounted(self) -> object:
        """Stands for the mounts of now: the same object for as long as they stay the same."""
        return self._now().namespace.mounted()

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and why."""
        return self.reader().gate.explain(path)

    def drop(self, path: NamespacePath) -> int:
        """Forget what the cache holds of the object's version of now; how many bytes."""
        return self.holding().drop(path)

    def pin(self, path: NamespacePath) -> int:
        """Bring the object into the SSD tier whole and keep it there; its bytes."""
        return self.holding().pin(path)

    def unpin(self, path: NamespacePath) -> int:
        """Let a pinned object leave again when its turn comes; its bytes, 0 if it was not."""
        return self.holding().unpin(path)

    def why(self, path: NamespacePath) -> Why:
        """Why the object's bytes are where they are."""
        return self.holding().why(path)

    def create(
        self, path: NamespacePath, *, exclusive: bool = False, if_version: str | None = None
    ) -> OpenWriter:
        """Write an object anew, or in place of what is there."""
        return self._now().writer.create(path, exclusive=exclusive, if_version=if_version)

    def append(self, path: NamespacePath) -> OpenWriter:
        """Write an object that begins with what is there now."""
        return self._now().writer.append(path)

    def copy(
        self, source: NamespacePath, target: NamespacePath, *, exclusive: bool = False
    ) -> ObjectVersion:
        """Copy one object; the new version."""
        return self._now().writer.copy(source, target, exclusive=exclusive)

    def rename(self, source: NamespacePath, target: NamespacePath) -> bool:
        """Give a file or folder another name in one step; False where that cannot be."""
        return self._now().writer.rename(source, target)

    def lies_in(self, path: NamespacePath, folder: NamespacePath) -> bool:
        """Whether what is written to `path` comes to lie in `folder`, by whatever names."""
        return self._now().writer.lies_in(path, folder)

    def delete(self, paths: Sequence[NamespacePath]) -> Mapping[NamespacePath, HeadraceError]:
        """Delete objects; what went wrong, by path."""
        return self._now().writer.delete(paths)

    def make_folder(
        self, path: NamespacePath, *, exist_ok: bool = False, like: NamespacePath | None = None
    ) -> None:
        """Make a folder, and those above it; `like` is the folder whose name it takes."""
        self._now().writer.make_folder(path, exist_ok=exist_ok, like=like)

    def remove_folder(self, path: NamespacePath) -> None:
        """Remove an empty folder."""
        self._now().writer.remove_folder(path)

    def changed(self, paths: Sequence[NamespacePath]) -> None:
        """Another process that shares this cache has changed what is at these paths, and below: no
        earlier answer of a store may stand in for it. A path that no mount answers for is nothing.
        """
        namespace = self._now().namespace
        namespace.mounted(at_once=True)  # it may be a mount that was made or undone
        for path in paths:
            with suppress(NotFound):
                ref = namespace.resolve(path).ref
                if ref is not None:
                    namespace.moved(ref)

    def mount_of(self, path: NamespacePath) -> Mount | None:
        """The mount that answers for `path`, as far as is known; no store is asked."""
        return self._now().namespace.mount_of(path)

    def mounts(self) -> Sequence[Mount]:
        """The mount table."""
        return self._now().namespace.mounts

    def add_mount(
        self, declaration: MountDeclaration, *, over: bool = False, checked: bool = True
    ) -> Sequence[Mount]:
        """Mount a store, for every process; the other mounts that may reach the same objects."""
        return self._now().namespace.add_mount(declaration, over=over, checked=checked)

    def remove_mount(self, path: NamespacePath) -> None:
        """Undo `add_mount`."""
        self._now().namespace.remove_mount(path)

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

    def policy_facts(self) -> PolicyFacts:
        """How it stands with the policy."""
        parts = self._now()
        epoch, broken = parts.reader.gate.standing()
        return PolicyFacts(epoch, broken, not parts.store.ssd_is_clean)

    def totals(self) -> Totals:
        """What all processes that share the cache folder have done."""
        return self._now().totals.totals()

    def flush(self) -> None:
        """Return when the next process will find warm what was read and may be kept."""
        parts = self._now()
        parts.store.flush()
        parts.totals.add()

    def close(self) -> None:
        """Flush, and let go of memory, files and connections."""
        with self._lock:
            parts, self._parts, self._closed = self._parts, None, True
        if parts is not None and self._owner:
            parts.patrol.close()
            parts.writer.close()
            parts.launcher.close()
            parts.namespace.close()
            parts.store.close()
            parts.totals.close()
            parts.ledger.close()
            parts.purging.close()

    def after_fork_in_child(self) -> None:
        """Put the parent's parts away; called in the child before anything else runs."""
        parts, self._parts = self._parts, None
        self._lock = threading.Lock()
        if parts is not None:
            parts.counters.after_fork_in_child()  # files that were open count as they close
            parts.store.abandon_in_child()

    def _purges(self, path: NamespacePath) -> Sequence[Purge]:
        """The records of purges that took bytes of the path's folder."""
        parts = self._now()
        return parts.purging.purges_of(parts.reader.gate.scope_of(path))

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
