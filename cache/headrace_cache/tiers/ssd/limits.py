"""How the SSD tier divides the bytes it may use; pure reckoning."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_cache.tiers.ssd.sealing import OVERHEAD_BYTES
from headrace_namespace.errors import ConfigError
from headrace_namespace.metadata.lmdb_env import LOCK_FILE_BYTES
from headrace_namespace.units import format_bytes

MIB = 1 << 20

#: Below this the index would take more than an eighth, with too few segments to evict.
LEAST_LIMIT_BYTES = 16 * MIB
#: The least limit in pages: six segments of two pages, and the index.
LEAST_LIMIT_PAGES = 16

#: One sixteenth for the index is enough for objects of 16 KiB on average in a small tier, 6 KiB in
#: a large one; smaller ones leave earlier.
_INDEX_SHARE = 16
_LEAST_INDEX_BYTES, _MOST_INDEX_BYTES = 2 * MIB, 16 << 30

#: Sixteen segments or more: eviction takes a sixteenth at once, and a handful of processes can each
#: hold one open.
_SEGMENTS = 16
#: 64 MiB are unlinked in a few milliseconds; larger ones would win nothing.
_LEAST_SEGMENT_BYTES, _MOST_SEGMENT_BYTES = 2 * MIB, 64 * MIB

#: How full the index may be before segments leave on its account. LMDB copies every page that it
#: changes, and gets the old ones back two transactions later: where a batch touches every page of a
#: small index, only a third of the map can be in use. A batch touches at most about 3,000 pages
#: (two for each of 512 entries and 1,000 swept), twice 12 MiB, beside which a large index is safe.
_FULL_SHARE_SMALL = 0.3
_FULL_SHARE_LARGE, _TOUCHED_BYTES = 0.8, 32 * MIB

#: What an object of one page takes in the index at most, as measured (tests/bench/ssd_tier.py).
BYTES_PER_OBJECT = 300

#: What a scope of a folder with a name of usual length takes, as measured.
BYTES_PER_SCOPE = 350

#: The folders' own blocks, and one for the index's sum and one for its draft; lock files are empty.
_FOLDER_BYTES = 24 * 1024
#: What a segment's name takes in its folder, whose blocks are half empty at the worst.
_NAME_BYTES = 128

#: A file system gives a file its bytes in blocks of this size, so that is how they are counted.
BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """The tier's bounds: all of it, its index's map and how much of that may be in use, its segment
    files together, and one of them in bytes and in pages."""

    limit_bytes: int
    page_bytes: int
    index_bytes: int
    index_full_bytes: int
    data_bytes: int
    segment_bytes: int
    segment_pages: int

    @property
    def pinned_segments(self) -> int:
        """How many segments pinned objects may keep from leaving: half of them. Counted in whole
        segments, so that they hold at most half of the index too."""
        return self.data_bytes // self.segment_bytes // 2

    @property
    def pinned_objects(self) -> int:
        """How many objects may be pinned, those of which nothing is held yet included."""
        return self.pinned_segments * self.segment_pages


def whole_blocks(count: int) -> int:
    """What a file of `count` bytes takes on the disk."""
    return -(-count // BLOCK_BYTES) * BLOCK_BYTES


def limits_of(limit_bytes: int, page_bytes: int) -> Limits:
    """The parts of `limit_bytes`; their sum is at most that. Raises ConfigError if too few."""
    least = max(LEAST_LIMIT_BYTES, LEAST_LIMIT_PAGES * page_bytes)
    if limit_bytes < least:
        raise ConfigError(
            f"the SSD tier cannot work with {format_bytes(limit_bytes)}",
            hint=f"give it at least {format_bytes(least)}, or none at all",
        )
    index_bytes = min(max(limit_bytes // _INDEX_SHARE, _LEAST_INDEX_BYTES), _MOST_INDEX_BYTES)
    index_bytes -= index_bytes % MIB
    data_bytes = limit_bytes - index_bytes - LOCK_FILE_BYTES - _FOLDER_BYTES
    data_bytes -= limit_bytes // _MOST_SEGMENT_BYTES * _NAME_BYTES
    # Two pages at least, so that the rest of a segment that no page fits into stays below a half.
    floor = max(_LEAST_SEGMENT_BYTES, whole_blocks(2 * (page_bytes + OVERHEAD_BYTES)))
    segment_bytes = max(min(data_bytes // _SEGMENTS, _MOST_SEGMENT_BYTES), floor)
    segment_bytes -= segment_bytes % BLOCK_BYTES
    index_full_bytes = max(
        int(index_bytes * _FULL_SHARE_SMALL),
        int(index_bytes * _FULL_SHARE_LARGE) - _TOUCHED_BYTES,
    )
    objects = index_full_bytes // BYTES_PER_OBJECT
    return Limits(
        limit_bytes=limit_bytes,
        page_bytes=page_bytes,
        index_bytes=index_bytes,
        index_full_bytes=index_full_bytes,
        data_bytes=data_bytes,
        segment_bytes=segment_bytes,
        # A segment of tiny objects is full when its share of the index is: else the first segment
        # alone could fill the index, with no older one to make room.
        segment_pages=objects // (data_bytes // segment_bytes),
    )
