"""What the cache holds of one object: brought, looked at, pinned, forgotten; given to nobody.

The read journey is `reader.py`; this room asks it for versions and placements, so that what is
brought for later obeys the policy as what is read does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from headrace_cache.extents.extent_store import CachedObject, ExtentStore
from headrace_cache.extents.page import page_length, runs
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.reader import Reader
from headrace_cache.service import HeldExtent, Purge, Why
from headrace_namespace.errors import PolicyDenied, StoreFull
from headrace_namespace.path import NamespacePath

#: Bringing again what had left before it was sealed: once, for a tier that is busy; a tier that is
#: too small would never hold it.
MOST_TRIES = 2
#: Runs of pages are told apart by nothing but their borders.
ANY_LENGTH = 1 << 62


class Holding:
    """What memory and the SSD hold, by path or by open object. Safe to use from many threads."""

    def __init__(
        self,
        reader: Reader,
        store: ExtentStore,
        purges: Callable[[NamespacePath], Sequence[Purge]],
    ) -> None:
        self._reader = reader
        self._store = store
        self._purges = purges

    def warm(self, pinned: Pinned, held: CachedObject, start: int, stop: int) -> int:
        """Bring a range to where it may be kept; the bytes that had to be fetched from the store.

        What the SSD holds stays there: to open it now would only push others out of memory.
        """
        if stop <= start or not held.memory:
            return 0
        fetched = 0
        step = self._reader.long_reads.piece_bytes
        for begin in range(start, stop, step):
            pages = self._reader.pages(begin, min(begin + step, stop))
            wanted = [p for p in pages if not (held.ssd and self._store.is_sealed(held, p))]
            fetched += self._warm_pages(pinned, held, wanted)
        return fetched

    def drop(self, path: NamespacePath) -> int:
        """Forget what memory and the SSD hold of the object's version of now; how many bytes."""
        _, held = self._attached(path)
        return self._store.forget(held)

    def pin(self, path: NamespacePath) -> int:
        """Bring the object into the SSD tier whole, and keep it there. Raises PolicyDenied where it
        may not lie there, StoreFull where there is no room for it."""
        pinned, held = self._attached(path)
        if not pinned.placement.allows_ssd:
            raise PolicyDenied(
                f"{path} may not lie on the SSD, so it cannot be pinned there",
                path=path.text,
                hint=f"headrace policy explain {path} says which rule it is",
            )
        if held.ssd:
            for _ in range(MOST_TRIES):
                self.warm(pinned, held, 0, held.size)
                self._store.flush()
                # Pinned before it is counted: what was evicted since is brought once more.
                if not self._store.pin_sealed(held):
                    break
                if self._sealed_bytes(held) == held.size:
                    return held.size
            self._store.unpin_sealed(held)
        raise StoreFull(
            f"the SSD tier has no room to keep {path} pinned",
            path=path.text,
            hint="unpin something else, or raise cache.ssd; half of it may be pinned",
        )

    def unpin(self, path: NamespacePath) -> int:
        """Let a pinned object leave again when its turn comes; its bytes, 0 if it was not."""
        _, held = self._attached(path)
        return held.size if self._store.unpin_sealed(held) else 0

    def why(self, path: NamespacePath) -> Why:
        """Why the object's bytes are where they are."""
        pinned, held = self._attached(path)
        return Why(
            version=pinned.version,
            explanation=self._reader.gate.explain(path),
            extents=(*self._memory_runs(held), *self._sealed_runs(held)),
            pinned=self._store.is_pinned(held),
            purges=self._purges(path),
        )

    def _attached(self, path: NamespacePath) -> tuple[Pinned, CachedObject]:
        pinned = self._reader.pin(path)
        return pinned, self._reader.attach(pinned)

    def _warm_pages(self, pinned: Pinned, held: CachedObject, pages: Sequence[int]) -> int:
        """Bring pages that the SSD has not; the bytes that were fetched for it."""
        page_bytes = self._store.shape.page_bytes
        fetched = 0
        for run in runs(pages, ANY_LENGTH):
            for _ in range(MOST_TRIES):
                absent = self._store.missing(held, run)
                self._store.seal(held, sorted(set(run).difference(absent)))
                if not absent:
                    break
                for part in runs(absent, ANY_LENGTH):
                    stop = min(part.stop * page_bytes, held.size)
                    self._reader.bring(pinned, held, part.start * page_bytes, stop, missed=False)
                lost = self._lost(held, absent)
                fetched += self._bytes(held, set(absent).difference(lost))
                if not lost:
                    break
            else:
                raise StoreFull(
                    f"memory has no room to bring {pinned.path}",
                    path=pinned.path.text,
                    hint="let fewer objects be brought at once, or raise cache.memory",
                )
        return fetched

    def _lost(self, held: CachedObject, pages: Sequence[int]) -> list[int]:
        """Those of the pages, just brought, that no tier holds.

        Where the SSD takes none of the object, what memory lets go for others is no fault.
        """
        if not held.ssd:
            return []
        absent = self._store.missing(held, range(pages[0], pages[-1] + 1))
        wanted = set(pages)
        return [p for p in absent if p in wanted and not self._store.is_sealed(held, p)]

    def _bytes(self, held: CachedObject, pages: Iterable[int]) -> int:
        return sum(page_length(page, held.size, self._store.shape.page_bytes) for page in pages)

    def _sealed_bytes(self, held: CachedObject) -> int:
        return self._bytes(held, (page.index for page in self._store.sealed_pages(held)))

    def _memory_runs(self, held: CachedObject) -> Iterator[HeldExtent]:
        """What memory holds, with the time of the oldest byte of each extent."""
        page_bytes = self._store.shape.page_bytes
        for _, span in sorted(held.spans.items()):
            last = span.first_page + len(span.present)
            present = [p for p in range(span.first_page, last) if span.has(range(p, p + 1))]
            for run in runs(present, ANY_LENGTH):
                start, stop = run.start * page_bytes, min(run.stop * page_bytes, held.size)
                yield self._extent(held, "memory", start, stop, span.since)

    def _sealed_runs(self, held: CachedObject) -> Iterator[HeldExtent]:
        page_bytes = self._store.shape.page_bytes
        stored_at = {page.index: page.stored_at for page in self._store.sealed_pages(held)}
        for run in runs(sorted(stored_at), ANY_LENGTH):
            start, stop = run.start * page_bytes, min(run.stop * page_bytes, held.size)
            yield self._extent(held, "ssd", start, stop, min(stored_at[page] for page in run))

    def _extent(
        self, held: CachedObject, tier: str, start: int, stop: int, since: float | None
    ) -> HeldExtent:
        return HeldExtent(start, stop - start, tier, since, held.version.ref.store)
