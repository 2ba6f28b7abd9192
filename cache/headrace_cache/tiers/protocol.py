"""What the extent store asks of a tier that keeps whole pages beyond memory (the sealed SSD).

A tier is a cache: it may forget any page at any time, and its failures are its own. It never raises
for a disk that is full, slow, read-only or damaged: it forgets, says so once in the log, and goes
on without what it lost. All methods may be called from many threads, and many processes may share
one folder. `tests/conformance/page_tier_suite.py` holds every kind to these sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace_cache.page import PageId


@dataclass(frozen=True, slots=True)
class TierUsage:
    """How full a tier is: bytes used and allowed, and the objects of which it holds a page."""

    used: int
    limit: int
    objects: int


class PageTier(Protocol):
    """Pages kept by identity; what comes back is exactly what was stored, or nothing."""

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """Fill each page's target from the tier; True for those that were filled whole.

        A target's length is the page's length. Where the answer is False its content is undefined.
        """
        ...

    def store(self, pages: Sequence[tuple[PageId, memoryview]]) -> None:
        """Keep these pages where there is room; the caller's memory is free after the return."""
        ...

    def holds(self, page: PageId) -> bool:
        """Whether the page is kept now; it may be gone before the next call."""
        ...

    def forget(self, version: bytes) -> int:
        """Forget every page of the version with this digest; the number of bytes forgotten."""
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
