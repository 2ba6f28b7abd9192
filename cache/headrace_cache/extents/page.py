"""Pages: the unit of fetching and of validity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: 1 MiB: large enough that a request's fixed cost (about 1 ms on loopback, 10-30 ms from a real
#: bucket) is spread over enough bytes, small enough that a Parquet footer does not fetch a file.
PAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PageId:
    """One page of one version: the version's digest and the page's index in the object."""

    version: bytes
    index: int


def page_range(start: int, stop: int, page_bytes: int = PAGE_BYTES) -> range:
    """The indexes of the pages that hold bytes `start` to `stop` (exclusive)."""
    if stop <= start:
        return range(0)
    return range(start // page_bytes, (stop - 1) // page_bytes + 1)


def page_length(index: int, size: int, page_bytes: int = PAGE_BYTES) -> int:
    """How many bytes page `index` of an object of `size` bytes holds; the last may be short."""
    return min(page_bytes, size - index * page_bytes)


def runs(indexes: Iterable[int], most: int) -> Iterator[range]:
    """Ascending page indexes as unbroken runs of at most `most` pages."""
    first = last = -1
    for index in indexes:
        if first >= 0 and index == last + 1 and index - first < most:
            last = index
            continue
        if first >= 0:
            yield range(first, last + 1)
        first = last = index
    if first >= 0:
        yield range(first, last + 1)
