"""A page tier in a dict, for tests that look at what reaches the SSD."""

from __future__ import annotations

from collections.abc import Sequence

from headrace_cache.page import PageId
from headrace_cache.tiers.protocol import TierUsage


class DictTier:
    """Keeps every page it is given, as plain bytes."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.pages: dict[PageId, bytes] = {}
        self._limit = limit

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        for page, target in pages:
            if page in self.pages:
                target[:] = self.pages[page]
        return [page in self.pages for page, _ in pages]

    def store(self, pages: Sequence[tuple[PageId, memoryview]]) -> None:
        for page, data in pages:
            self.pages[page] = bytes(data)
            data.release()

    def holds(self, page: PageId) -> bool:
        return page in self.pages

    def forget(self, version: bytes) -> int:
        gone = [page for page in self.pages if page.version == version]
        return sum(len(self.pages.pop(page)) for page in gone)

    def usage(self) -> TierUsage:
        used = sum(len(data) for data in self.pages.values())
        return TierUsage(used, self._limit, len({page.version for page in self.pages}))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork_in_child(self) -> None:
        pass
