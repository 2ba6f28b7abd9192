"""Sizes so small that every bound of the cache is met by objects of some kilobytes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from headrace_cache.extents import extent_store
from headrace_cache.reading import fetching, open_object, prefetch
from headrace_cache.tiers.ssd import limits
from headrace_cache.writing import staging, writer
from headrace_namespace.metadata import lmdb_env

#: A page of the cache; the kernel gives no smaller ones.
PAGE = 4096
MEMORY_BYTES = 32 * PAGE
LOW_MEMORY_BYTES = 12 * PAGE
DICT_TIER_BYTES = 64 * PAGE
#: One for the index, one for seven segments of 128 KiB and a rest.
SSD_BYTES = 3 << 20
LOW_SSD_BYTES = 2 << 20
MOST_EXTENTS = 9
PUT_BYTES = 2 * PAGE
PART_BYTES = 3 * PAGE
MOST_BYTES_UNDER_WAY = 8 * PAGE

#: Around every border: a page, an arena's object, a run, what is held whole, and beyond.
SIZES = (
    0,
    1,
    100,
    PAGE - 1,
    PAGE,
    PAGE + 1,
    2 * PAGE,
    4 * PAGE,
    4 * PAGE + 77,
    8 * PAGE,
    8 * PAGE + 1,
    20 * PAGE - 3,
)


@contextmanager
def scaled() -> Generator[None]:
    """While it lasts, the cache's own sizes are as small as these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "REQUEST_BYTES", 2 * PAGE)
        patch.setattr(open_object, "PRIVATE_BYTES", PAGE)
        patch.setattr(prefetch, "FIRST_WINDOW_BYTES", PAGE)
        patch.setattr(prefetch, "GAP_BYTES", PAGE)
        patch.setattr(staging, "FIRST_CHARGE_BYTES", PAGE)
        patch.setattr(staging, "COPIED_BYTES", 2 * PAGE)
        patch.setattr(writer, "LEAST_BASE_BYTES", 4 * PAGE)
        # Who waits for room in vain waits so long each time; nothing else depends on it.
        patch.setattr(extent_store, "ROOM_SECONDS", 0.002)
        patch.setattr(limits, "LEAST_LIMIT_BYTES", LOW_SSD_BYTES)
        patch.setattr(limits, "_LEAST_INDEX_BYTES", 1 << 20)
        patch.setattr(limits, "_LEAST_SEGMENT_BYTES", 128 << 10)
        assert lmdb_env.LOCK_FILE_BYTES < 128 << 10
        yield
