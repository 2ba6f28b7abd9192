"""The cache as the ways in see it: one protocol, however near or far the cache is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.tiers.protocol import TierUsage
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath


@dataclass(frozen=True, slots=True)
class AnsweringNode:
    """The node that has answered: its socket on this host or its URL, and its process as this one
    sees it (None where it does not: of another host, or another container)."""

    address: str
    process: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """What a cache holds and what it has done since its process opened it.

    `tiers` maps `memory` and `ssd` to their usage (no `ssd` where there is none); `requests` maps
    each mount to how often each operation was asked of its store. `node` is whose cache it is; None
    where it is this process's own.
    """

    tiers: Mapping[str, TierUsage]
    hits: int
    misses: int
    bytes_fetched: int
    bytes_served: int
    requests: Mapping[str, Mapping[str, int]]
    node: AnsweringNode | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What all processes that share the cache folder have done together, since `since` (seconds
    since the epoch; None where nothing is kept). `requests` as in `Status`."""

    since: float | None
    hits: int
    misses: int
    bytes_fetched: int
    bytes_served: int
    requests: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class HeldExtent:
    """A run of an object's bytes that the cache holds: where, since when (seconds since the epoch),
    and which store it came from."""

    offset: int
    length: int
    tier: str
    fetched_at: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Purge:
    """The record of a purge: a policy got stricter, and the keys of what it covers were destroyed.

    `rules` are those that demanded it; `method` says how; `verified` whether a look afterwards
    found nothing that could still be opened.
    """

    at: float
    epoch: int
    rules: Sequence[str]
    objects: int
    bytes: int
    method: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Why:
    """Why a path's bytes are where they are: the version now, its placement and the rules that make
    it so, what is held of it, whether it is pinned, and which purges took bytes of its folder."""

    version: ObjectVersion
    explanation: PolicyExplanation
    extents: Sequence[HeldExtent]
    pinned: bool
    purges: Sequence[Purge]


class OpenWriter(Protocol):
    """A new object being written: nobody sees any of it before `commit`. For one thread.

    It ends by `commit` or `abort`; an error of `write` or `finish` has aborted it already.
    """

    @property
    def path(self) -> NamespacePath:
        """The path that it is written to."""
        ...

    @property
    def written(self) -> int:
        """Bytes written so far; with those that were there before, where it appends."""
        ...

    def write(self, data: memoryview) -> None:
        """The next bytes; waits while as much is under way as may be."""
        ...

    def finish(self) -> None:
        """Send all that was written; what remains for `commit` is one short request."""
        ...

    def commit(self) -> ObjectVersion:
        """Let the object take its place; the version that the store gave it, warm where its
        placement lets it be. Raises WriteConflict, AlreadyExists, and the store's errors."""
        ...

    def abort(self) -> None:
        """Give it up: what was there stays. Does nothing after the end."""
        ...


class OpenObject(Protocol):
    """One version of one object, pinned at open. Safe to use from several threads."""

    @property
    def path(self) -> NamespacePath:
        """The path it was opened by."""
        ...

    @property
    def version(self) -> ObjectVersion:
        """Exactly which bytes every read gives."""
        ...

    @property
    def restricted(self) -> bool:
        """Whether the policy keeps its bytes from every disk (memory-only, and stricter)."""
        ...

    def read_at(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` (exclusive); fewer only at the object's end.

        Raises VersionGone where they can no longer be had, and the store's errors.
        """
        ...

    def read_into(self, start: int, target: memoryview) -> int:
        """Fill `target` from `start` on; the number of bytes, fewer only at the object's end."""
        ...

    def warm(self, start: int, stop: int) -> int:
        """Bring a range into the cache without giving it to anybody; the bytes that had to be
        fetched from the store."""
        ...

    def view(self, start: int, stop: int) -> memoryview | bytes:
        """The same bytes without a copy where they lie in one piece of memory.

        A view holds cache memory for as long as it lives: use it and drop it.
        """
        ...

    def close(self) -> None:
        """Let go; later reads raise ValueError."""
        ...


class CacheService(Protocol):
    """The tree, read through the cache and governed by the policy."""

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        ...

    @property
    def authority(self) -> str | None:
        """The node of another host whose tree this is, `host:port`; None for the tree of this
        host. Errors name their paths with it."""
        ...

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is. `freshness` overrides the mount's own. Raises NotFound."""
        ...

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder, streamed, in any order; an object lists as itself.

        Raises NotFound.
        """
        ...

    def open(self, path: NamespacePath, freshness: Freshness | None = None) -> OpenObject:
        """The object, its version pinned. Raises NotFound, IsFolder, PolicyDenied."""
        ...

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and why."""
        ...

    # Writing. Each is refused (ReadOnly) where the mount or its store cannot be written, and by the
    # policy (PolicyDenied) where it denies the path.

    def create(
        self, path: NamespacePath, *, exclusive: bool = False, if_version: str | None = None
    ) -> OpenWriter:
        """Write an object anew, or in place of what is there.

        `exclusive`: only where nothing is there. `if_version`: only while the object there has
        this version. Raises AlreadyExists, WriteConflict, IsFolder, NotFound (no mount).
        """
        ...

    def append(self, path: NamespacePath) -> OpenWriter:
        """Write an object that begins with what is there now (nothing, where nothing is).

        Committing raises WriteConflict where it was changed meanwhile.
        """
        ...

    def copy(
        self, source: NamespacePath, target: NamespacePath, *, exclusive: bool = False
    ) -> ObjectVersion:
        """Copy one object, within its store where both lie in one; the new version.

        Raises PolicyDenied where the target's placement would be looser than the source's.
        """
        ...

    def rename(self, source: NamespacePath, target: NamespacePath) -> bool:
        """Give a file or folder another name in one step; False where the store cannot, and nothing
        has happened. Refused by the policy as `copy`; AlreadyExists where both are the same."""
        ...

    def lies_in(self, path: NamespacePath, folder: NamespacePath) -> bool:
        """Whether what is written to `path` comes to lie in `folder`, by whatever names: other
        mounts of one store, links. Raises NotFound (no mount)."""
        ...

    def delete(self, paths: Sequence[NamespacePath]) -> Mapping[NamespacePath, HeadraceError]:
        """Delete objects, as many at a time as the store takes; what went wrong, by path.

        Those that were not there count as deleted. Never a folder.
        """
        ...

    def make_folder(
        self, path: NamespacePath, *, exist_ok: bool = False, like: NamespacePath | None = None
    ) -> None:
        """Make a folder, and those above it. Raises AlreadyExists.

        `like` is the folder whose name is copied: PolicyDenied where that must stay in memory and
        the new place would not keep it there.
        """
        ...

    def remove_folder(self, path: NamespacePath) -> None:
        """Remove an empty folder. Raises NotFound, NotFolder, FolderNotEmpty."""
        ...

    # What the cache holds of an object.

    def drop(self, path: NamespacePath) -> int:
        """Forget what memory and the SSD hold of the object's version of now; how many bytes."""
        ...

    def pin(self, path: NamespacePath) -> int:
        """Bring the object into the SSD tier whole and keep it there whatever else comes, until
        `unpin`; its bytes. Raises PolicyDenied where it may not lie there, StoreFull where the
        room for pinned objects is used up."""
        ...

    def unpin(self, path: NamespacePath) -> int:
        """Let a pinned object leave again when its turn comes; its bytes, 0 if it was not."""
        ...

    def why(self, path: NamespacePath) -> Why:
        """Why the object's bytes are where they are. Raises NotFound, IsFolder, PolicyDenied."""
        ...

    # The tree and the state.

    def mounts(self) -> Sequence[Mount]:
        """The mount table."""
        ...

    def add_mount(
        self, declaration: MountDeclaration, *, over: bool = False, checked: bool = True
    ) -> Sequence[Mount]:
        """Mount a store, for every process that shares this cache folder, until it is unmounted.

        The store is asked first where it is `checked`, so that a wrong URL, option or credential is
        told here. Returns the other mounts that may reach the same objects. Raises AlreadyExists
        where the path is a mount, an object, or (without `over`) a folder with something in it;
        NotFolder below an object; ConfigError for a loop.
        """
        ...

    def remove_mount(self, path: NamespacePath) -> None:
        """Undo `add_mount`. Raises NotFound, and ConfigError for a mount of the configuration."""
        ...

    def status(self) -> Status:
        """What the cache holds, and what this process has done."""
        ...

    def totals(self) -> Totals:
        """What all processes that share the cache folder have done."""
        ...

    def flush(self) -> None:
        """Return when the next process will find warm what was read so far and may be kept."""
        ...

    def close(self) -> None:
        """Flush, and let go of memory, files and connections."""
        ...

    def after_fork_in_child(self) -> None:
        """Told in a forked child before anything else runs: what the parent holds is not ours."""
        ...
