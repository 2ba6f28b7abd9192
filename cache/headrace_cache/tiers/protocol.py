"""What the extent store asks of a tier that keeps whole pages beyond memory (the sealed SSD).

A tier is a cache: it may forget any page at any time, and its failures are its own. It never raises
for a disk that is full, slow, read-only or damaged: it forgets, says so once in the log, and goes
on without what it lost. All methods may be called from many threads, and many processes may share
one folder. `tests/conformance/page_tier_suite.py` holds every kind to these sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope


@dataclass(frozen=True, slots=True)
class TierUsage:
    """How full a tier is: bytes used and allowed, the objects of which it holds a page, and the
    bytes that wait to be stored in it."""

    used: int
    limit: int
    objects: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class HeldPage:
    """A page that the tier holds: its index, its bytes, and when it was stored (seconds since the
    epoch, whole)."""

    index: int
    bytes: int
    stored_at: float


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What a purge destroyed. `verified`: a look afterwards found no key of these scopes."""

    scopes: Sequence[Scope]
    objects: int
    bytes: int
    method: str
    verified: bool


class PageTier(Protocol):
    """Pages kept by identity; what comes back is exactly what was stored, or nothing."""

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """Fill each page's target from the tier; True for those that were filled whole.

        A target's length is the page's length. Where the answer is False its content is undefined.
        """
        ...

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        """Keep these pages where there is room; the caller's memory is free after the return.

        `scope` says by which folders their object is reached, for a later `purge`.
        """
        ...

    def store_each(self, pages: Sequence[tuple[PageId, memoryview, Scope]]) -> None:
        """Store pages of several scopes, as `store` does, at the cost of one batch."""
        ...

    def holds(self, page: PageId) -> bool:
        """Whether the page is kept now; it may be gone before the next call."""
        ...

    def forget(self, version: bytes) -> int:
        """Forget every page of the version with this digest; the number of bytes forgotten."""
        ...

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        """Destroy the keys of every object whose scope `covers` says yes to, at once and for all
        processes: from the return on, no copy of their pages can be opened by anybody.

        None where no scope is covered. Pages of other scopes may be forgotten with them, mostly
        those of objects in the same folders that are reached by fewer names. `covers` may be asked
        while the tier is locked, so it must not ask the tier. It raises OSError where that could
        not be done, so that the caller serves nothing that depends on it.
        """
        ...

    def inspect(self, version: bytes) -> Sequence[HeldPage]:
        """The pages held of the version with this digest, by index."""
        ...

    def expire(self, version: bytes, before: float) -> int:
        """Forget the version's pages that were stored before this time (seconds since the epoch);
        their bytes."""
        ...

    def pin(self, version: bytes) -> bool:
        """Keep the version's pages from being evicted; False where the room for pinned ones (half
        of the limit) is used up, or the tier cannot."""
        ...

    def unpin(self, version: bytes) -> bool:
        """Let them be evicted again; whether they were pinned."""
        ...

    def pinned(self, version: bytes) -> bool:
        """Whether the version is pinned."""
        ...

    def usage(self) -> TierUsage:
        """How full the tier is, over all processes that share it."""
        ...

    def flush(self) -> None:
        """Return when all that was stored before can be loaded by another process."""
        ...

    def close(self) -> None:
        """Flush, and let go of files and threads."""
        ...

    def after_fork_in_child(self) -> None:
        """Let go of what the parent had open, without disturbing it; the tier opens its own next.

        To be called in the child before any other thread is started.
        """
        ...
