"""The cache as the ways in see it: one protocol, however near or far the cache is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace_cache.tiers.protocol import TierUsage
from headrace_namespace.entry import Entry
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath


@dataclass(frozen=True, slots=True)
class Status:
    """What a cache holds and what it has done since this process opened it.

    `tiers` maps `memory` and `ssd` to their usage (no `ssd` where there is none); `requests` maps
    each mount to how often each operation was asked of its store.
    """

    tiers: Mapping[str, TierUsage]
    hits: int
    misses: int
    bytes_fetched: int
    bytes_served: int
    requests: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class RuleReason:
    """One policy rule that applies to a path, and by which name and pattern it does."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyExplanation:
    """What the policy decides of a path, as its words, and the rules that make it so."""

    path: NamespacePath
    persistence: str
    metadata: str
    guarantee: str
    rules: Sequence[RuleReason]


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

    def mounts(self) -> Sequence[Mount]:
        """The mount table."""
        ...

    def status(self) -> Status:
        """What the cache holds and has done."""
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
