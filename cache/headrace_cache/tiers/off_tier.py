"""A tier that is off: it holds nothing and never fails, but for a purge that it cannot promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import HeldPage, PurgeReport, TierUsage


class OffTier:
    """Stands in for a tier whose folder cannot be used.

    `leftover` says why, where pages of an earlier run may lie in the folder: they are out of reach,
    so a purge that should destroy them is refused. None: there is nothing.
    """

    def __init__(self, leftover: str | None = None) -> None:
        self._leftover = leftover

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """Nothing is here."""
        return [False] * len(pages)

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        """Nothing is kept."""

    def store_each(self, pages: Sequence[tuple[PageId, memoryview, Scope]]) -> None:
        """Nothing is kept."""

    def holds(self, page: PageId) -> bool:
        """False."""
        return False

    def forget(self, version: bytes) -> int:
        """Nothing to forget: 0."""
        return 0

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        """Nothing to destroy: None; OSError where something may be that is out of reach."""
        if self._leftover is not None:
            raise OSError(
                f"what the SSD tier holds from an earlier run cannot be purged: {self._leftover}"
            )
        return None

    def inspect(self, version: bytes) -> Sequence[HeldPage]:
        """Nothing is held."""
        return ()

    def expire(self, version: bytes, before: float) -> int:
        """Nothing to forget: 0."""
        return 0

    def pin(self, version: bytes) -> bool:
        """False: it cannot."""
        return False

    def unpin(self, version: bytes) -> bool:
        """False: nothing is pinned."""
        return False

    def pinned(self, version: bytes) -> bool:
        """False."""
        return False

    def usage(self) -> TierUsage:
        """Nothing used, and nothing allowed: a limit of 0 says that the tier is off."""
        return TierUsage(0, 0, 0)

    def flush(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to let go of."""

    def after_fork_in_child(self) -> None:
        """Nothing was open."""
