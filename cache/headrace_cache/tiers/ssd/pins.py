"""Which objects are pinned, and which segments stay for them.

A segment that takes a page of a pinned object is marked; a mark is a hint, which eviction checks
when the segment's turn has come. So unpinning, forgetting and purging need not look for segments.
"""

from __future__ import annotations

from headrace_cache.tiers.ssd.limits import Limits
from headrace_cache.tiers.ssd.records import MOST_PAGES, OBJECT_ID_BYTES, SegmentRecord
from headrace_cache.tiers.ssd.tables import Tables, Transaction


class Pins:
    """The pinned objects of one folder. Raises IndexFault where a method says nothing else."""

    def __init__(self, tables: Tables, limits: Limits) -> None:
        self._tables = tables
        self._limits = limits

    def pin(self, object_id: bytes) -> bool:
        """Pin the object, whether or not pages of it are held yet; False where the segments with
        its pages are more than may stay for pins."""
        tables = self._tables
        with tables.environment.write() as txn:
            if tables.is_pinned(txn, object_id):
                return True
            if tables.pins(txn) >= self._limits.pinned_objects:
                return False
            # First, so that what is stored from now on marks its segment itself.
            tables.put_pin(txn, object_id)
        with tables.environment.read() as txn:
            # By index and in one go: a large object has some ten thousand pages.
            places = [place for _, place in tables.places_of(txn, object_id, MOST_PAGES)]
        return self._mark(object_id, {place.segment for place in places})

    def unpin(self, object_id: bytes) -> bool:
        """Let the object's pages leave in their turn; whether it was pinned."""
        if not self.pinned(object_id):
            return False
        with self._tables.environment.write() as txn:
            return self._tables.delete_pin(txn, object_id)

    def pinned(self, object_id: bytes) -> bool:
        """Whether the object is pinned."""
        with self._tables.environment.read() as txn:
            return self._tables.is_pinned(txn, object_id)

    def hold(self, txn: Transaction, segment: int, record: SegmentRecord) -> bool:
        """Whether pages of a pinned object lie in this marked segment; takes back a wrong mark."""
        asked: dict[bytes, bool] = {}
        for key in self._tables.contents(txn, segment):
            object_id = key[:OBJECT_ID_BYTES]
            if object_id not in asked:
                asked[object_id] = self._is_held(txn, object_id)
            place = self._tables.place(txn, key) if asked[object_id] else None
            if place is not None and place.segment == segment:
                return True
        record.pinned = False
        self._tables.put_segment(txn, segment, record)
        return False

    def _is_held(self, txn: Transaction, object_id: bytes) -> bool:
        """Whether the object is pinned, and can be opened."""
        if not self._tables.is_pinned(txn, object_id):
            return False
        record = self._tables.object(txn, object_id)
        return record is not None and self._tables.scope(txn, record.scope) is not None

    def _mark(self, object_id: bytes, segments: set[int]) -> bool:
        tables = self._tables
        with tables.environment.write() as txn:
            known = dict(tables.all_segments(txn))
            segments &= known.keys()
            marked = {n for n, record in known.items() if record.pinned} | segments
            if len(marked) > self._limits.pinned_segments:
                marked = {n for n in marked - segments if self.hold(txn, n, known[n])} | segments
            if len(marked) > self._limits.pinned_segments:
                tables.delete_pin(txn, object_id)
                return False
            for segment in segments:
                record = known[segment]
                record.pinned = True
                tables.put_segment(txn, segment, record)
            return True
