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
        self._all = (
            self._meta,
            self._objects,
            self._pages,
            self._segments,
            self._queue,
            self._contents,
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

    # objects and pages

    def object(self, txn: Transaction, object_id: bytes) -> ObjectRecord | None:
        """An object's key and page count."""
        raw = txn.get(object_id, db=self._objects)
        return None if raw is None else ObjectRecord.unpack(raw)

    def put_object(self, txn: Transaction, object_id: bytes, record: ObjectRecord) -> None:
        """Replace an object's record; one without pages is deleted, and its key with it."""
        if record.pages:
            txn.put(object_id, record.pack(), db=self._objects)
        else:
            txn.delete(object_id, db=self._objects)

    def objects(self, txn: Transaction) -> int:
        """How many objects are known."""
        return int(txn.stat(self._objects)["entries"])

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

    def places_of(self, txn: Transaction, object_id: bytes, most: int) -> list[tuple[bytes, Place]]:
        """Up to `most` pages of an object."""
        found: list[tuple[bytes, Place]] = []
        cursor = txn.cursor(db=self._pages)
        more = cursor.set_range(object_id)
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
