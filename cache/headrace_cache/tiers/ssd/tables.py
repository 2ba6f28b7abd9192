"""The SSD tier's LMDB databases, read and written as records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import lmdb

from headrace_cache.tiers.ssd import records
from headrace_cache.tiers.ssd.records import (
    KeyRecord,
    ObjectRecord,
    Place,
    ScopeRecord,
    ScopeTotals,
    SegmentRecord,
    Totals,
)
from headrace_namespace.metadata.lmdb_env import SharedEnvironment

#: A read or write transaction of the index.
Transaction: TypeAlias = "lmdb.Transaction[bytes]"


class Tables:
    """The databases of one environment; every method works within the caller's transaction."""

    def __init__(self, environment: SharedEnvironment) -> None:
        self.environment = environment
        self._meta = environment.database(records.META)
        self._objects = environment.database(records.OBJECTS)
        self._pages = environment.database(records.PAGES)
        self._segments = environment.database(records.SEGMENTS)
        self._queue = environment.database(records.QUEUE)
        self._contents = environment.database(records.CONTENTS)
        self._scopes = environment.database(records.SCOPES)
        self._labels = environment.database(records.LABELS)
        self._pins = environment.database(records.PINS)
        self._all = (
            self._meta,
            self._objects,
            self._pages,
            self._segments,
            self._queue,
            self._contents,
            self._scopes,
            self._labels,
            self._pins,
        )

    # meta

    def format(self, txn: Transaction) -> bytes | None:
        """The stored format number; None in a new index."""
        return txn.get(records.FORMAT_KEY, db=self._meta)

    def put_format(self, txn: Transaction) -> None:
        """Say that the index is of our format."""
        txn.put(records.FORMAT_KEY, records.pack_format(), db=self._meta)

    def key(self, txn: Transaction) -> KeyRecord | None:
        """Which key wraps."""
        raw = txn.get(records.KEY_KEY, db=self._meta)
        return None if raw is None else KeyRecord.unpack(raw)

    def put_key(self, txn: Transaction, record: KeyRecord) -> None:
        """Say which key wraps."""
        txn.put(records.KEY_KEY, record.pack(), db=self._meta)

    def totals(self, txn: Transaction) -> Totals:
        """The sums over all segments."""
        raw = txn.get(records.TOTALS_KEY, db=self._meta)
        return Totals() if raw is None else Totals.unpack(raw)

    def put_totals(self, txn: Transaction, totals: Totals) -> None:
        """Replace the sums."""
        txn.put(records.TOTALS_KEY, totals.pack(), db=self._meta)

    def gone(self, txn: Transaction) -> int | None:
        """One evicted segment whose contents are still listed, or None."""
        cursor = txn.cursor(db=self._meta)
        if cursor.set_range(records.GONE_PREFIX):
            key = cursor.key()
            if key.startswith(records.GONE_PREFIX):
                return records.number_of(key[len(records.GONE_PREFIX) :])
        return None

    def put_gone(self, txn: Transaction, segment: int) -> None:
        """Remember an evicted segment until its contents are swept."""
        txn.put(records.GONE_PREFIX + records.number_key(segment), b"", db=self._meta)

    def delete_gone(self, txn: Transaction, segment: int) -> None:
        """The segment's contents are swept."""
        txn.delete(records.GONE_PREFIX + records.number_key(segment), db=self._meta)

    # scopes

    def scope_totals(self, txn: Transaction) -> ScopeTotals:
        """The sums over all scopes."""
        raw = txn.get(records.SCOPE_TOTALS_KEY, db=self._meta)
        return ScopeTotals() if raw is None else ScopeTotals.unpack(raw)

    def put_scope_totals(self, txn: Transaction, totals: ScopeTotals) -> None:
        """Replace the sums."""
        txn.put(records.SCOPE_TOTALS_KEY, totals.pack(), db=self._meta)

    def scope(self, txn: Transaction, number: int) -> ScopeRecord | None:
        """A scope's record; None for one whose key was destroyed."""
        raw = txn.get(records.scope_key(number), db=self._scopes)
        return None if raw is None else ScopeRecord.unpack(raw)

    def put_scope(self, txn: Transaction, number: int, record: ScopeRecord) -> None:
        """Replace a scope's record."""
        txn.put(records.scope_key(number), record.pack(), db=self._scopes)

    def all_scopes(self, txn: Transaction) -> list[tuple[int, ScopeRecord]]:
        """Every scope; about one for each folder of which something was ever stored."""
        return [
            (records.scope_number_of(key), ScopeRecord.unpack(value))
            for key, value in txn.cursor(db=self._scopes)
        ]

    def labelled(self, txn: Transaction, label: bytes) -> int | None:
        """The number of the scope with this label."""
        raw = txn.get(label, db=self._labels)
        return None if raw is None else records.scope_number_of(raw)

    def put_label(self, txn: Transaction, label: bytes, number: int) -> None:
        """Let the scope be found by its label."""
        txn.put(label, records.scope_key(number), db=self._labels)

    def drop_scopes(self, txn: Transaction) -> None:
        """Take out all scopes and labels, at the cost of a few pages, however many there are."""
        txn.drop(self._scopes, delete=False)
        txn.drop(self._labels, delete=False)

    # pins

    def is_pinned(self, txn: Transaction, object_id: bytes) -> bool:
        """Whether the object is pinned."""
        return txn.get(object_id, db=self._pins) is not None

    def put_pin(self, txn: Transaction, object_id: bytes) -> None:
        """Pin the object."""
        txn.put(object_id, b"", db=self._pins)

    def delete_pin(self, txn: Transaction, object_id: bytes) -> bool:
        """Unpin the object; whether it was pinned."""
        return bool(txn.delete(object_id, db=self._pins))

    def pins(self, txn: Transaction) -> int:
        """How many objects are pinned."""
        return int(txn.stat(self._pins)["entries"])

    # objects and pages

    def object(self, txn: Transaction, object_id: bytes) -> ObjectRecord | None:
        """An object's key and page count."""
        raw = txn.get(object_id, db=self._objects)
        return None if raw is None else ObjectRecord.unpack(raw)

    def put_object(self, txn: Transaction, object_id: bytes, record: ObjectRecord) -> None:
        """Replace an object's record; one without pages is deleted. Its scope counts it."""
        before = self.object(txn, object_id)
        if record.pages:
            txn.put(object_id, record.pack(), db=self._objects)
        else:
            txn.delete(object_id, db=self._objects)
        was = None if before is None else before.scope
        now = record.scope if record.pages else None
        if was != now:
            self.count_objects(txn, was, -1)
            self.count_objects(txn, now, 1)

    def put_uncounted(self, txn: Transaction, object_id: bytes, record: ObjectRecord) -> None:
        """Replace an object's record by one with pages; the caller counts it for its scope."""
        txn.put(object_id, record.pack(), db=self._objects)

    def count_objects(self, txn: Transaction, number: int | None, change: int) -> None:
        """So many objects came to a scope, or left it; nothing where the scope is no more."""
        scope = None if number is None else self.scope(txn, number)
        if number is None or scope is None:
            return
        totals = self.scope_totals(txn)
        totals.empty -= not scope.objects
        scope.objects = max(0, scope.objects + change)
        totals.empty += not scope.objects
        totals.objects = max(0, totals.objects + change)
        self.put_scope_totals(txn, totals)
        self.put_scope(txn, number, scope)

    def objects_from(
        self, txn: Transaction, start: bytes, most: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        """Up to `most` objects from this id on, by id."""
        found: list[tuple[bytes, ObjectRecord]] = []
        cursor = txn.cursor(db=self._objects)
        more = cursor.set_range(start)
        while more and len(found) < most:
            found.append((cursor.key(), ObjectRecord.unpack(cursor.value())))
            more = cursor.next()
        return found

    def place(self, txn: Transaction, page_key: bytes) -> Place | None:
        """Where a page lies; its segment may be gone."""
        raw = txn.get(page_key, db=self._pages)
        return None if raw is None else Place.unpack(raw)

    def put_place(self, txn: Transaction, page_key: bytes, place: Place) -> None:
        """Say where a page lies."""
        txn.put(page_key, place.pack(), db=self._pages)

    def delete_place(self, txn: Transaction, page_key: bytes) -> None:
        """Forget where a page lies."""
        txn.delete(page_key, db=self._pages)

    def places_of(
        self, txn: Transaction, object_id: bytes, most: int, start: int = 0
    ) -> list[tuple[bytes, Place]]:
        """Up to `most` pages of an object, from the page `start` on, by index."""
        found: list[tuple[bytes, Place]] = []
        cursor = txn.cursor(db=self._pages)
        more = cursor.set_range(records.page_key(object_id, start))
        while more and len(found) < most and cursor.key().startswith(object_id):
            found.append((cursor.key(), Place.unpack(cursor.value())))
            more = cursor.next()
        return found

    # segments

    def segment(self, txn: Transaction, segment: int) -> SegmentRecord | None:
        """A segment's record; None for one that left."""
        raw = txn.get(records.number_key(segment), db=self._segments)
        return None if raw is None else SegmentRecord.unpack(raw)

    def put_segment(self, txn: Transaction, segment: int, record: SegmentRecord) -> None:
        """Replace a segment's record; its turn must be in the queue."""
        txn.put(records.number_key(segment), record.pack(), db=self._segments)

    def delete_segment(self, txn: Transaction, segment: int, record: SegmentRecord) -> None:
        """Take a segment out, from the queue too."""
        txn.delete(records.number_key(segment), db=self._segments)
        txn.delete(records.number_key(record.turn), db=self._queue)

    def all_segments(self, txn: Transaction) -> list[tuple[int, SegmentRecord]]:
        """Every segment; at most some thousands."""
        return [
            (records.number_of(key), SegmentRecord.unpack(value))
            for key, value in txn.cursor(db=self._segments)
        ]

    def newest_segments(self, txn: Transaction, most: int) -> list[tuple[int, SegmentRecord]]:
        """Up to `most` segments, the newest first."""
        found: list[tuple[int, SegmentRecord]] = []
        cursor = txn.cursor(db=self._segments)
        more = cursor.last()
        while more and len(found) < most:
            key, value = cursor.item()
            found.append((records.number_of(key), SegmentRecord.unpack(value)))
            more = cursor.prev()
        return found

    def put_turn(self, txn: Transaction, turn: int, segment: int) -> None:
        """Enter a segment into the queue."""
        txn.put(records.number_key(turn), records.number_key(segment), db=self._queue)

    def delete_turn(self, txn: Transaction, turn: int) -> None:
        """Take a turn out of the queue."""
        txn.delete(records.number_key(turn), db=self._queue)

    def queue(self, txn: Transaction) -> Iterator[int]:
        """The segments, those first whose turn it is to leave; change nothing while it is read."""
        for _, value in txn.cursor(db=self._queue):
            yield records.number_of(value)

    # contents

    def put_contents(self, txn: Transaction, segment: int, offset: int, keys: list[bytes]) -> None:
        """List page keys as put into a segment from `offset` on."""
        step = records.CONTENTS_PER_RECORD
        for start in range(0, len(keys), step):
            # A page takes more than one byte, so `offset + start` is no other batch's key.
            key = records.contents_key(segment, offset + start)
            txn.put(key, b"".join(keys[start : start + step]), db=self._contents)

    def contents(self, txn: Transaction, segment: int) -> Iterator[bytes]:
        """The page keys that were put into a segment; the pages may lie elsewhere by now."""
        cursor = txn.cursor(db=self._contents)
        more = cursor.set_range(records.contents_key(segment, 0))
        while more and cursor.key().startswith(records.number_key(segment)):
            yield from records.page_keys_of(cursor.value())
            more = cursor.next()

    def pop_contents(self, txn: Transaction, segment: int) -> list[bytes] | None:
        """Take out one batch's page keys; None when there are no more."""
        cursor = txn.cursor(db=self._contents)
        if not cursor.set_range(records.contents_key(segment, 0)):
            return None
        key = cursor.key()
        if not key.startswith(records.number_key(segment)):
            return None
        keys = records.page_keys_of(cursor.value())
        txn.delete(key, db=self._contents)
        return keys

    def bytes_in_use(self, txn: Transaction) -> int:
        """Bytes of the index's file that hold something now (its file never shrinks)."""
        pages, page_bytes = 0, 0
        for database in self._all:
            stat = txn.stat(database)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            page_bytes = stat["psize"]
        return pages * page_bytes
