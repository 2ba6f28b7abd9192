"""Who may write where: the reckoning of the SSD tier's bytes, and what leaves to make room.

Everything here happens within one LMDB write transaction, of which there is one at a time over all
processes. Files are made and unlinked inside it too: a segment's full size is reserved before its
file exists and given back after the file is gone, so the bound holds at every instant. A process
killed in between leaves a file that no record names, or a record without a file; `settle` finds
both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from headrace_cache.eviction.second_chance import Candidate, choose
from headrace_cache.tiers.ssd.limits import Limits, whole_blocks
from headrace_cache.tiers.ssd.pins import Pins
from headrace_cache.tiers.ssd.records import SegmentRecord, Totals
from headrace_cache.tiers.ssd.segments import SegmentFiles, SegmentWriter
from headrace_cache.tiers.ssd.tables import Tables, Transaction

#: How many of the newest segments are asked for unused room before a new one is made. Without this
#: a thousand short processes would leave a thousand files of one page each.
_MOST_ADOPTIONS = 8

#: How many names of segments may be taken by what is no file, before none is made.
_MOST_TAKEN = 16

#: A segment with less than this share of its room left is not worth taking over.
_WORTH_ADOPTING = 0.5

#: Page entries swept per transaction: 1,000 take about 5 ms, the longest that a commit should grow.
SWEEP_PAGES = 1000

#: Segments that may leave within one transaction on the index's account. Half-empty pages merge
#: with later deletions only, so the use falls behind what left: more would be too many.
_MOST_EVICTIONS_FOR_INDEX = 2


class Space:
    """The segments of one folder, their sizes and their queue."""

    def __init__(self, tables: Tables, files: SegmentFiles, limits: Limits) -> None:
        self._tables = tables
        self._pins = Pins(tables, limits)
        self._files = files
        self._limits = limits

    def settle(self, txn: Transaction) -> None:
        """Put records and files in agreement: close the segments of dead writers, take out records
        without a file, remove files without a record, and keep to a limit that was lowered.

        The sums are counted anew: a wrong one would break the bound, or keep pages away for ever.
        """
        files = self._files.listed()
        totals = self._tables.totals(txn)
        segments = self._tables.all_segments(txn)
        totals.reserved = sum(record.reserved for _, record in segments)
        totals.written = sum(record.tail for _, record in segments)
        known: set[int] = set()
        for segment, record in segments:
            known.add(segment)
            if segment not in files:
                self._remove(txn, totals, segment, record)
            elif record.open:
                self._close_if_dead(txn, totals, segment, record)
        for stray in files - known:
            self._files.remove(stray)
        while totals.reserved > self._limits.data_bytes and self._evict(txn, totals):
            pass
        self._tables.put_totals(txn, totals)

    def open_segment(self, txn: Transaction, least_bytes: int) -> SegmentWriter | None:
        """A segment with room for `least_bytes` at least (one page), its full size reserved; None
        where none can leave for it."""
        totals = self._tables.totals(txn)
        writer = self._adopt(txn, totals, least_bytes)
        if writer is None and self._make_room(txn, totals, self._limits.segment_bytes):
            writer = self._create(txn, totals)
        self._tables.put_totals(txn, totals)
        return writer

    def close_segment(self, txn: Transaction, writer: SegmentWriter) -> None:
        """Give back what a segment of ours reserved and did not use."""
        record = self._tables.segment(txn, writer.segment)
        if record is not None:
            totals = self._tables.totals(txn)
            self._close(txn, totals, writer.segment, record, os.fstat(writer.descriptor).st_size)
            self._tables.put_totals(txn, totals)

    def grew(self, txn: Transaction, segment: int, record: SegmentRecord, tail: int) -> None:
        """Indexed pages now reach to `tail` in a segment; stores the record."""
        if tail > record.tail:
            totals = self._tables.totals(txn)
            totals.written += tail - record.tail
            record.tail = tail
            self._tables.put_totals(txn, totals)
        self._tables.put_segment(txn, segment, record)

    def page_left(self, txn: Transaction, segment: int) -> None:
        """One page of a segment is no longer indexed; the last one's leaving frees the segment."""
        record = self._tables.segment(txn, segment)
        if record is None:
            return
        record.pages = max(0, record.pages - 1)
        if record.pages or record.open:
            self._tables.put_segment(txn, segment, record)
        else:
            totals = self._tables.totals(txn)
            self._remove(txn, totals, segment, record)
            self._tables.put_totals(txn, totals)

    def relieve_index(self, txn: Transaction) -> bool:
        """Let segments leave while the index is too full; whether it no longer is."""
        allowed = self._limits.index_full_bytes
        for _ in range(_MOST_EVICTIONS_FOR_INDEX):
            if self._tables.bytes_in_use(txn) <= allowed:
                return True
            totals = self._tables.totals(txn)
            evicted = self._evict(txn, totals)
            self._tables.put_totals(txn, totals)
            swept = self.sweep(txn, self._limits.segment_pages)
            if not evicted and not swept:
                break
        return self._tables.bytes_in_use(txn) <= allowed

    def sweep(self, txn: Transaction, most: int = SWEEP_PAGES) -> int:
        """Take up to about `most` pages of evicted segments out of the index; how many."""
        swept = 0
        while swept < most:
            segment = self._tables.gone(txn)
            if segment is None:
                break
            keys = self._tables.pop_contents(txn, segment)
            if keys is None:
                self._tables.delete_gone(txn, segment)
                continue
            for key in keys:
                place = self._tables.place(txn, key)
                if place is not None and place.segment == segment:
                    self.unlist(txn, key)
            swept += len(keys)
        return swept

    def take_out(self, txn: Transaction, object_id: bytes, most: int) -> tuple[int, int]:
        """Take up to `most` pages of an object that has no record any more out of the index: how
        many, and their plain bytes as far as they could still be read."""
        taken = 0
        found = self._tables.places_of(txn, object_id, most)
        for key, place in found:
            self._tables.delete_place(txn, key)
            if self._tables.segment(txn, place.segment) is not None:
                taken += place.plain
                self.page_left(txn, place.segment)
        return len(found), taken

    def unlist(self, txn: Transaction, page_key: bytes) -> None:
        """Take a page out of `pages`, and its object's record when it was the last."""
        self._tables.delete_place(txn, page_key)
        object_id = page_key[:16]
        record = self._tables.object(txn, object_id)
        if record is not None:
            left = type(record)(record.scope, max(0, record.pages - 1), record.wrapped_key)
            self._tables.put_object(txn, object_id, left)

    # One segment

    def _adopt(self, txn: Transaction, totals: Totals, least_bytes: int) -> SegmentWriter | None:
        size = self._limits.segment_bytes
        for segment, record in self._tables.newest_segments(txn, _MOST_ADOPTIONS):
            pages_left = self._limits.segment_pages - record.pages
            if (
                record.open
                or record.reserved > size * (1 - _WORTH_ADOPTING)
                or pages_left < self._limits.segment_pages * _WORTH_ADOPTING
                or totals.reserved + size - record.reserved > self._limits.data_bytes
            ):
                continue
            try:
                descriptor = self._files.claim(segment)
            except FileNotFoundError:
                continue
            if descriptor is None:
                continue
            # Bytes behind the last indexed page are left alone: a reader may know them.
            tail = max(record.tail, os.fstat(descriptor).st_size)
            if tail + least_bytes > size:
                os.close(descriptor)
                continue
            totals.reserved += size - record.reserved
            record.open, record.reserved = True, size
            self._tables.put_segment(txn, segment, record)
            return SegmentWriter(segment, descriptor, tail, size, pages_left)
        return None

    def _create(self, txn: Transaction, totals: Totals) -> SegmentWriter:
        segment, descriptor = self._new_file(totals.next_segment)
        turn, size = totals.next_turn, self._limits.segment_bytes
        totals.next_segment = segment + 1
        totals.next_turn += 1
        totals.reserved += size
        record = SegmentRecord(open=True, used=False, pages=0, reserved=size, tail=0, turn=turn)
        self._tables.put_segment(txn, segment, record)
        self._tables.put_turn(txn, turn, segment)
        return SegmentWriter(segment, descriptor, 0, size, self._limits.segment_pages)

    def _new_file(self, first: int) -> tuple[int, int]:
        """A segment's number, from `first` on, and its file's descriptor."""
        for segment in range(first, first + _MOST_TAKEN):
            try:
                return segment, self._files.create(segment)
            except FileExistsError:
                continue  # a folder has its name: it is not ours to remove
        raise FileExistsError(f"{_MOST_TAKEN} names of segments are taken by folders of others")

    def _close(
        self, txn: Transaction, totals: Totals, segment: int, record: SegmentRecord, size: int
    ) -> None:
        taken = whole_blocks(size)
        totals.reserved += taken - record.reserved
        record.open, record.reserved = False, taken
        if record.pages:
            self._tables.put_segment(txn, segment, record)
        else:
            self._remove(txn, totals, segment, record)

    def _close_if_dead(
        self, txn: Transaction, totals: Totals, segment: int, record: SegmentRecord
    ) -> bool:
        """Close a segment whose writer was killed; whether it may leave now."""
        try:
            descriptor = self._files.claim(segment)
        except FileNotFoundError:
            self._remove(txn, totals, segment, record)
            return False
        if descriptor is None:
            return False
        try:
            self._close(txn, totals, segment, record, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        return record.pages > 0

    def _make_room(self, txn: Transaction, totals: Totals, wanted: int) -> bool:
        while totals.reserved + wanted > self._limits.data_bytes:
            if not self._evict(txn, totals):
                return False
        return True

    def _evict(self, txn: Transaction, totals: Totals) -> bool:
        reserved = totals.reserved
        passed: list[int] = []
        choice = choose(self._candidates(txn, totals, passed))
        for segment in (*choice.spared, *passed):
            record = self._tables.segment(txn, segment)
            if record is not None:
                self._tables.delete_turn(txn, record.turn)
                record.used, record.turn = False, totals.next_turn
                totals.next_turn += 1
                self._tables.put_turn(txn, record.turn, segment)
                self._tables.put_segment(txn, segment, record)
        if choice.victim is not None:
            record = self._tables.segment(txn, choice.victim)
            if record is not None:
                self._remove(txn, totals, choice.victim, record)
        # The walk itself may have given room back: from the segments of dead writers.
        return choice.victim is not None or totals.reserved < reserved

    def _candidates(
        self, txn: Transaction, totals: Totals, passed: list[int]
    ) -> Iterator[Candidate]:
        """What may leave, the oldest first; pinned segments are noted in `passed` instead."""
        most = self._limits.pinned_segments
        # The list is made first, because closing dead writers' segments changes the queue.
        for segment in list(self._tables.queue(txn)):
            record = self._tables.segment(txn, segment)
            if record is None:
                continue
            if record.open and not self._close_if_dead(txn, totals, segment, record):
                continue
            if record.pinned and len(passed) < most and self._pins.hold(txn, segment, record):
                passed.append(segment)
                continue
            yield Candidate(segment, record.used)

    def _remove(
        self, txn: Transaction, totals: Totals, segment: int, record: SegmentRecord
    ) -> None:
        self._files.remove(segment)
        totals.reserved -= record.reserved
        totals.written -= record.tail
        totals.evictions += 1
        self._tables.delete_segment(txn, segment, record)
        self._tables.put_gone(txn, segment)
