"""Extents: how an object is laid into backing memory, the unit of handing over and evicting.

A small object shares an *arena* with others, so that 10,000 files do not cost 10,000 mappings. A
larger one is *whole*: one run of memory, so that it can be mapped and handed to pyarrow without a
copy. One too large for its tier is cut into fixed *runs*, so that it can stream through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace_cache.extents.page import PAGE_BYTES

#: An arena holds many objects and leaves as one: small beside the tier, so little is lost with it.
ARENA_BYTES = 32 << 20
#: An eighth of an arena, so that at most that share of it is wasted at its end.
ARENA_OBJECT_BYTES = ARENA_BYTES // 8
#: 64 requests of 1 MiB or 8 of 8 MiB: enough to stream, small enough to evict.
RUN_BYTES = 64 << 20
#: What is lent is charged whole, whatever of it was read: so a tier that lends has room for so many
#: extents at least, as far as they need not be smaller than eight flights of a page each.
LEAST_LENT_EXTENTS = 256
LENT_RUN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ExtentShape:
    """The sizes by which objects are laid out, chosen once for a tier. All in bytes."""

    page_bytes: int
    arena_bytes: int
    arena_object_bytes: int
    whole_bytes: int
    run_bytes: int

    @classmethod
    def for_tier(
        cls, limit_bytes: int, page_bytes: int = PAGE_BYTES, *, lent: bool = False
    ) -> ExtentShape:
        """The shape for a memory tier of this size: no extent takes more than a quarter of it.
        Where extents are `lent`, each is charged whole, and none is larger than a run."""
        longest = RUN_BYTES
        if lent:  # a few bytes of each of many objects still find room
            longest = min(RUN_BYTES, max(LENT_RUN_BYTES, limit_bytes // LEAST_LENT_EXTENTS))
        run = max(page_bytes, min(longest, limit_bytes // 8) // page_bytes * page_bytes)
        arena = max(page_bytes, min(ARENA_BYTES, limit_bytes // 8) // page_bytes * page_bytes)
        return cls(
            page_bytes=page_bytes,
            arena_bytes=arena,
            arena_object_bytes=min(ARENA_OBJECT_BYTES, max(page_bytes, arena // 8)),
            whole_bytes=run if lent else max(run, limit_bytes // 4),
            run_bytes=run,
        )

    def in_arena(self, size: int) -> bool:
        """Whether an object of this size shares an arena."""
        return size <= self.arena_object_bytes

    def extent_bytes(self, size: int) -> int:
        """How many bytes of the object each of its extents spans (the last may be shorter)."""
        return size if size <= self.whole_bytes else self.run_bytes

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, int]]:
        """The extents that hold bytes `start` to `stop` of an object: (index, from, to) each."""
        if stop <= start:
            return
        each = self.extent_bytes(size)
        for index in range(start // each, (stop - 1) // each + 1):
            yield index, max(start, index * each), min(stop, (index + 1) * each)
