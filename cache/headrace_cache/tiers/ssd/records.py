"""The records of the SSD tier's index: what lies in each LMDB database, byte by byte.

Numbers in keys are big-endian, so that their order is LMDB's order; in values little-endian.

    database  key                          value
    meta      "format"                     u32, FORMAT
              "key"                        KeyRecord: which key-encryption key wraps, and the
                                           identity key that it wraps
              "totals"                     Totals: sums over all segments
              "scopes"                     ScopeTotals: sums over all scopes
              "gone:" + segment u64        empty; an evicted segment whose contents are still to be
                                           swept out of `pages`
    scopes    scope u32                    ScopeRecord: the wrapped scope key, objects under it, the
                                           sealed names and locations of its folders
    labels    keyed hash, 16 bytes         u32, the scope of that content
    objects   object id, 16 bytes          ObjectRecord: the wrapped data key, pages held
    pages     object id + page index u32   Place: where the sealed page lies
    segments  segment u64                  SegmentRecord
    queue     turn u64                     u64, the segment whose turn it is; the lowest turn leaves
                                           first
    pins      object id, 16 bytes          empty; pages of this object are not evicted
    contents  segment u64 + offset u32     page keys of 20 bytes, one after the other: what was put
                                           into the segment by one batch from this offset on

A page whose segment is not in `segments` counts as absent, and so does an object whose scope is not
in `scopes`: its data key cannot be opened by anybody. `contents` exists so that an evicted
segment's pages are found without a walk through all of `pages`; written in batches at growing keys
it costs 21 bytes a page.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

#: Raised whenever the meaning of a stored byte changes; another number means: start empty.
FORMAT = 3

META, OBJECTS, PAGES = "meta", "objects", "pages"
SEGMENTS, QUEUE, CONTENTS = "segments", "queue", "contents"
SCOPES, LABELS, PINS = "scopes", "labels", "pins"

FORMAT_KEY = b"format"
KEY_KEY = b"key"
TOTALS_KEY = b"totals"
SCOPE_TOTALS_KEY = b"scopes"
GONE_PREFIX = b"gone:"

_U32 = struct.Struct("<I")
_U32_KEY = struct.Struct(">I")
_U64_KEY = struct.Struct(">Q")
_PAGE_KEY = struct.Struct(">16sI")
_CONTENTS_KEY = struct.Struct(">QI")
_KEY = struct.Struct("<I16s60s")
_TOTALS = struct.Struct("<QQQQQ")
_OBJECT = struct.Struct("<II60s")
_PLACE = struct.Struct("<QIIII")
_MOST_U32 = 0xFFFF_FFFF
_SEGMENT = struct.Struct("<BBBxIQQQ")
_SCOPE = struct.Struct("<IBxxx60s")
_SCOPE_TOTALS = struct.Struct("<IIII")

PAGE_KEY_BYTES = _PAGE_KEY.size
#: What a page key begins with.
OBJECT_ID_BYTES = 16
#: Page indexes are stored in 32 bits.
MOST_PAGES = 1 << 32
#: Page keys in one `contents` record: four records fill an LMDB page; a longer record would
#: take whole pages of its own.
CONTENTS_PER_RECORD = 45


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The key-encryption key's number (grows with each rotation) and fingerprint, and the identity
    key wrapped by it."""

    number: int
    fingerprint: bytes
    wrapped_identity_key: bytes

    def pack(self) -> bytes:
        """u32 number, 16 bytes fingerprint, 60 bytes wrapped key."""
        return _KEY.pack(self.number, self.fingerprint, self.wrapped_identity_key)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        return cls(*_KEY.unpack(raw))


@dataclass(slots=True)
class Totals:
    """Counters over all segments; a missing record is all zeros.

    `next_segment` and `next_turn` only grow, so neither ever repeats. `reserved` is what segments
    may take on disk, `written` what they hold. `evictions` counts segments that left.
    """

    next_segment: int = 1
    next_turn: int = 1
    reserved: int = 0
    written: int = 0
    evictions: int = 0

    def pack(self) -> bytes:
        """Five u64, in the order of the fields."""
        return _TOTALS.pack(
            self.next_segment, self.next_turn, self.reserved, self.written, self.evictions
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        return cls(*_TOTALS.unpack(raw))


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """An object version's data key, wrapped by the key of its scope, and the pages held of it."""

    scope: int
    pages: int
    wrapped_key: bytes

    def pack(self) -> bytes:
        """u32 scope, u32 pages, 60 bytes wrapped key."""
        return _OBJECT.pack(self.scope, self.pages, self.wrapped_key)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        return cls(*_OBJECT.unpack(raw))


@dataclass(slots=True)
class ScopeRecord:
    """A scope's key, wrapped by the key-encryption key, and the scope itself, sealed (`Keys`).

    `objects` counts the objects whose data key it wraps; a scope that has none stays, because old
    copies of their wrapped keys lie in the index's free pages. `moved`: an object of here may have
    gone to a wider scope, so that such a copy is all that speaks of it.
    """

    objects: int
    moved: bool
    wrapped_key: bytes
    sealed: bytes

    def pack(self) -> bytes:
        """u32 objects, u8 moved, 3 zero, 60 bytes wrapped key, the sealed content."""
        return _SCOPE.pack(self.objects, self.moved, self.wrapped_key) + self.sealed

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        objects, moved, wrapped_key = _SCOPE.unpack_from(raw)
        return cls(objects, bool(moved), wrapped_key, bytes(raw[_SCOPE.size :]))


@dataclass(slots=True)
class ScopeTotals:
    """Counters over all scopes; a missing record is all zeros.

    `next_scope` only grows, so that no number repeats. `objects` counts the objects of all scopes,
    `scopes` the scopes and `empty` those without an object.
    """

    next_scope: int = 1
    objects: int = 0
    scopes: int = 0
    empty: int = 0

    def pack(self) -> bytes:
        """Four u32, in the order of the fields."""
        return _SCOPE_TOTALS.pack(self.next_scope, self.objects, self.scopes, self.empty)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        return cls(*_SCOPE_TOTALS.unpack(raw))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed page lies, its length with header and tag, its length before sealing, and when
    it was stored (whole seconds since the epoch)."""

    segment: int
    offset: int
    stored: int
    plain: int
    stored_at: int

    def pack(self) -> bytes:
        """u64 segment, u32 offset, u32 stored bytes, u32 plain bytes, u32 seconds: a clock before
        1970 or after 2106 counts as that time."""
        seconds = min(max(self.stored_at, 0), _MOST_U32)
        return _PLACE.pack(self.segment, self.offset, self.stored, self.plain, seconds)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        return cls(*_PLACE.unpack(raw))


@dataclass(slots=True)
class SegmentRecord:
    """One segment file. While `open`, a process may append to it and `reserved` is all it may ever
    take; closed, `reserved` is its real size. `used` says that a page was read since the segment
    was last considered for eviction; `pages` counts the entries that point to it; `tail` is where
    its last indexed page ends; `turn` is its place in the queue; `pinned` says that pages of a
    pinned object may lie in it (whether they do, is looked up when it is to be evicted).
    """

    open: bool
    used: bool
    pages: int
    reserved: int
    tail: int
    turn: int
    pinned: bool = False

    def pack(self) -> bytes:
        """u8 open, u8 used, u8 pinned, 1 zero, u32 pages, u64 reserved, u64 tail, u64 turn."""
        return _SEGMENT.pack(
            self.open, self.used, self.pinned, self.pages, self.reserved, self.tail, self.turn
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record again. Raises struct.error."""
        is_open, used, pinned, pages, reserved, tail, turn = _SEGMENT.unpack(raw)
        return cls(bool(is_open), bool(used), pages, reserved, tail, turn, bool(pinned))


def pack_format() -> bytes:
    """The value of "format"."""
    return _U32.pack(FORMAT)


def number_key(number: int) -> bytes:
    """The key of a segment, or of a turn."""
    return _U64_KEY.pack(number)


def number_of(key: bytes) -> int:
    """The segment or turn of a key (or of a `queue` value, which is written alike)."""
    return int(_U64_KEY.unpack(key)[0])


def scope_key(number: int) -> bytes:
    """The key of a scope (and the value of `labels`)."""
    return _U32_KEY.pack(number)


def scope_number_of(key: bytes) -> int:
    """The scope of a key, or of a `labels` value."""
    return int(_U32_KEY.unpack(key)[0])


def page_key(object_id: bytes, index: int) -> bytes:
    """The key of a page."""
    return _PAGE_KEY.pack(object_id, index)


def page_index(key: bytes) -> int:
    """The index of the page with this key."""
    return int(_PAGE_KEY.unpack(key)[1])


def contents_key(segment: int, offset: int) -> bytes:
    """The key of a batch's contents."""
    return _CONTENTS_KEY.pack(segment, offset)


def page_keys_of(contents: bytes) -> list[bytes]:
    """The page keys of one `contents` value."""
    return [
        contents[start : start + PAGE_KEY_BYTES]
        for start in range(0, len(contents) - PAGE_KEY_BYTES + 1, PAGE_KEY_BYTES)
    ]
