"""Memory that is pinned while bytes arrive in it, from the SSD or from a store."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.extent import ExtentShape
from headrace_cache.tiers.memory import Span


class FillHome(Protocol):
    """What a fill asks of the extent store that began it."""

    @property
    def shape(self) -> ExtentShape:
        """How objects are laid out."""
        ...

    def load_sealed(self, held: CachedObject, pages: list[tuple[int, memoryview]]) -> list[bool]:
        """Open these pages from the SSD into their targets; False for those that it has not."""
        ...

    def publish(self, held: CachedObject, span: Span, pages: list[int], *, seal: bool) -> None:
        """These pages' bytes are in place."""
        ...

    def end_fill(self, span: Span) -> None:
        """The fill no longer needs its extent."""
        ...


class Fill:
    """Memory pinned for some pages of one extent while their bytes arrive. A context manager."""

    def __init__(self, store: FillHome, held: CachedObject, span: Span, pages: range) -> None:
        self._store = store
        self._held = held
        self._span = span
        self._pages = pages
        self._view = memoryview(span.extent.mapping)

    def load_sealed(self) -> list[int]:
        """Open what the SSD has of the pages, publish it; the pages that must be fetched."""
        targets = [(page, self.target(range(page, page + 1))) for page in self._pages]
        found = self._store.load_sealed(self._held, targets)
        for _, target in targets:
            target.release()
        self.publish([page for page, ok in zip(self._pages, found, strict=True) if ok], seal=False)
        return [page for page, ok in zip(self._pages, found, strict=True) if not ok]

    def target(self, pages: range) -> memoryview:
        """Where the bytes of these pages belong; release it before the fill is closed."""
        page_bytes = self._store.shape.page_bytes
        stop = min(pages.stop * page_bytes, self._held.size)
        return self._view[self._span.place(pages.start * page_bytes, stop)]

    def publish(self, pages: Iterable[int], *, seal: bool = True) -> None:
        """The bytes of these pages are in place."""
        self._store.publish(self._held, self._span, list(pages), seal=seal)

    def __enter__(self) -> Fill:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._view.release()
        self._store.end_fill(self._span)
