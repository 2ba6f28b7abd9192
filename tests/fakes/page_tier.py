"""A page tier in a dict, for tests that look at what reaches the SSD."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import HeldPage, PurgeReport, TierUsage
from headrace_namespace.clock import Clock, SystemClock


class DictTier:
    """Keeps the pages it is given as plain bytes, the newest where they exceed its limit; the
    versions pinned may fill half of it. It outlives its closing: so one can look into it, or give
    it to the next service as one folder."""

    def __init__(self, limit: int = 1 << 30, clock: Clock | None = None) -> None:
        self.pages: dict[PageId, bytes] = {}
        self.stored_at: dict[PageId, float] = {}
        #: By version: what its pages were stored under.
        self.scopes: dict[bytes, Scope] = {}
        self.pins: set[bytes] = set()
        self._limit = limit
        self._used = 0
        self._clock = clock or SystemClock()

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        answers: list[bool] = []
        for page, target in pages:
            data = self.pages.get(page)
            answers.append(data is not None and len(data) == len(target))
            if data is not None and len(data) == len(target):
                target[:] = data
        return answers

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        for page, data in pages:
            known = self.scopes.get(page.version, scope)
            self.scopes[page.version] = known.joined(scope)
            self._used -= len(self.pages.pop(page, b""))
            self.pages[page] = bytes(data)
            self.stored_at.setdefault(page, float(int(self._clock.now())))
            data.release()
            self._used += len(self.pages[page])
            while self._used > self._limit:
                self._drop([next(name for name in self.pages if name.version not in self.pins)])

    def store_each(self, pages: Sequence[tuple[PageId, memoryview, Scope]]) -> None:
        for page, data, scope in pages:
            self.store([(page, data)], scope)

    def holds(self, page: PageId) -> bool:
        return page in self.pages

    def forget(self, version: bytes) -> int:
        self.pins.discard(version)
        self.scopes.pop(version, None)
        return self._drop([page for page in self.pages if page.version == version])

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        scopes = {scope for scope in self.scopes.values() if covers(scope)}
        if not scopes:
            return None
        gone = [version for version, scope in self.scopes.items() if scope in scopes]
        taken = sum(self.forget(version) for version in gone)
        return PurgeReport(tuple(scopes), len(gone), taken, "dropped from a dict", True)

    def inspect(self, version: bytes) -> Sequence[HeldPage]:
        held = sorted(page.index for page in self.pages if page.version == version)
        return [
            HeldPage(index, len(self.pages[page]), self.stored_at[page])
            for index in held
            for page in [PageId(version, index)]
        ]

    def expire(self, version: bytes, before: float) -> int:
        return self._drop(
            [
                page
                for page in self.pages
                if page.version == version and self.stored_at[page] < before
            ]
        )

    def pin(self, version: bytes) -> bool:
        pinned = self.pins | {version}
        used = sum(len(data) for page, data in self.pages.items() if page.version in pinned)
        if used > self._limit // 2:
            return False
        self.pins.add(version)
        return True

    def unpin(self, version: bytes) -> bool:
        was = version in self.pins
        self.pins.discard(version)
        return was

    def pinned(self, version: bytes) -> bool:
        return version in self.pins

    def usage(self) -> TierUsage:
        used = sum(len(data) for data in self.pages.values())
        return TierUsage(used, self._limit, len({page.version for page in self.pages}))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork_in_child(self) -> None:
        pass

    def _drop(self, gone: Sequence[PageId]) -> int:
        for page in gone:
            del self.stored_at[page]
        taken = sum(len(self.pages.pop(page)) for page in gone)
        self._used -= taken
        return taken
