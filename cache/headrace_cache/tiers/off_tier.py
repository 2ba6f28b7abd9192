"""A tier that is off: it holds nothing and never fails."""

from __future__ import annotations

from collections.abc import Sequence

from headrace_cache.page import PageId
from headrace_cache.tiers.protocol import TierUsage


class OffTier:
    """Stands in for a tier whose folder cannot be used."""

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """Nothing is here."""
        return [False] * len(pages)

    def store(self, pages: Sequence[tuple[PageId, memoryview]]) -> None:
        """Nothing is kept."""

    def holds(self, page: PageId) -> bool:
        """False."""
        return False

    def forget(self, version: bytes) -> int:
        """Nothing to forget: 0."""
        return 0

    def usage(self) -> TierUsage:
        """Nothing used, and nothing allowed: a limit of 0 says that the tier is off."""
        return TierUsage(0, 0, 0)

    def flush(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to let go of."""

    def after_fork_in_child(self) -> None:
        """Nothing was open."""
