"""What the SSD tier knows of its pages: found, entered and forgotten in batches, one transaction
each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace_cache.tiers.protocol import TierUsage
from headrace_cache.tiers.ssd.limits import Limits
from headrace_cache.tiers.ssd.records import ObjectRecord, Place, SegmentRecord, page_key
from headrace_cache.tiers.ssd.space import SWEEP_PAGES, Space
from headrace_cache.tiers.ssd.tables import Tables, Transaction
from headrace_namespace.metadata.lmdb_env import IndexFull

#: How often a batch is entered where the index's map is full: again after dead readers were cleared
#: and segments left. What does not fit then will not fit soon.
_MOST_TRIES = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One page that was written and is to be found from now on."""

    object_id: bytes
    index: int
    place: Place


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of some pages: where each lies (None: nowhere), the keys of their objects, and
    how many segments ever left, by which an open file that was unlinked is suspected."""

    places: Sequence[Place | None]
    objects: Mapping[bytes, ObjectRecord]
    evictions: int


@dataclass(frozen=True, slots=True)
class Notes:
    """What readers found and the next transaction writes down: the segments that were read from,
    and the page entries that led to nothing."""

    used: frozenset[int] = frozenset()
    broken: tuple[tuple[bytes, Place], ...] = ()


class SsdIndex:
    """The index of one folder. Safe to use from many threads and processes."""

    def __init__(self, tables: Tables, space: Space, limits: Limits) -> None:
        self._tables = tables
        self._space = space
        self._limits = limits

    def survey(self, pages: Sequence[tuple[bytes, int]], *, sure: bool = False) -> Survey:
        """Look up pages by object id and index. With `sure`, a page whose segment left is None
        (else a reader finds out for itself, one look-up the cheaper)."""
        tables = self._tables
        places: list[Place | None] = []
        objects: dict[bytes, ObjectRecord] = {}
        alive: dict[int, bool] = {}
        with tables.environment.read() as txn:
            for object_id, index in pages:
                if object_id not in objects:
                    record = tables.object(txn, object_id)
                    if record is None:
                        places.append(None)
                        continue
                    objects[object_id] = record
                place = tables.place(txn, page_key(object_id, index))
                if place is not None and sure:
                    known = alive.get(place.segment)
                    if known is None:
                        known = tables.segment(txn, place.segment) is not None
                        alive[place.segment] = known
                    place = place if known else None
                places.append(place)
            evictions = tables.totals(txn).evictions
        return Survey(places, objects, evictions)

    def enter(
        self, entries: Sequence[Entry], keys: Mapping[bytes, ObjectRecord], notes: Notes
    ) -> list[Entry]:
        """Let pages be found, each sealed under its object's key in `keys`; and take `notes`.

        Returns the entries whose object has another key by now, because another process stored it
        at the same time or it was forgotten, and those whose segment left: they were not entered
        and must be sealed again.
        Where the index is too full and nothing can leave, the batch is passed over. Raises
        IndexFault.
        """
        for _ in range(_MOST_TRIES):
            try:
                with self._tables.environment.write() as txn:
                    self._take(txn, notes)
                    self._space.sweep(txn)
                    # A batch is small beside the share that is kept free; the test is by batch.
                    if not self._space.relieve_index(txn):
                        return []
                    return self._enter(txn, entries, keys)
            except IndexFull:
                # A reader that hangs on to an old state keeps freed pages from being used again.
                self._tables.environment.clear_dead_readers()
                with self._tables.environment.write() as txn:
                    self._space.relieve_index(txn)
        return []

    def note(self, notes: Notes) -> None:
        """Take `notes` alone. Raises IndexFault."""
        with self._tables.environment.write() as txn:
            self._take(txn, notes)

    def forget(self, object_id: bytes) -> int:
        """Forget an object's key first, then its pages, in bounded transactions; their plain
        bytes. An object of which nothing is known costs a look-up. Raises IndexFault."""
        if not self._knows(object_id):
            return 0
        forgotten = 0
        while True:
            with self._tables.environment.write() as txn:
                record = self._tables.object(txn, object_id)
                if record is not None:
                    keyless = ObjectRecord(record.key_number, 0, record.wrapped_key)
                    self._tables.put_object(txn, object_id, keyless)
                found = self._tables.places_of(txn, object_id, SWEEP_PAGES)
                for key, place in found:
                    self._tables.delete_place(txn, key)
                    if self._tables.segment(txn, place.segment) is not None:
                        forgotten += place.plain
                        self._space.page_left(txn, place.segment)
            if len(found) < SWEEP_PAGES:
                return forgotten

    def _knows(self, object_id: bytes) -> bool:
        with self._tables.environment.read() as txn:
            return (
                self._tables.object(txn, object_id) is not None
                or len(self._tables.places_of(txn, object_id, 1)) > 0
            )

    def usage(self) -> TierUsage:
        """Bytes of sealed pages and of the index in use, over all processes. Raises IndexFault."""
        with self._tables.environment.read() as txn:
            used = self._tables.totals(txn).written + self._tables.bytes_in_use(txn)
            return TierUsage(used, self._limits.limit_bytes, self._tables.objects(txn))

    def _take(self, txn: Transaction, notes: Notes) -> None:
        for segment in notes.used:
            record = self._tables.segment(txn, segment)
            if record is not None and not record.used:
                record.used = True
                self._tables.put_segment(txn, segment, record)
        for key, place in notes.broken:
            if self._tables.place(txn, key) == place:
                self._space.unlist(txn, key)
                self._space.page_left(txn, place.segment)

    def _enter(
        self, txn: Transaction, entries: Sequence[Entry], keys: Mapping[bytes, ObjectRecord]
    ) -> list[Entry]:
        tables = self._tables
        added: dict[bytes, int] = {}
        stored = {object_id: tables.object(txn, object_id) for object_id in _objects_of(entries)}
        self._drop_keyless(txn, [entry for entry in entries if stored[entry.object_id] is None])
        segments = {n: tables.segment(txn, n) for n in {e.place.segment for e in entries}}
        contents: dict[int, list[Entry]] = {}
        refused: list[Entry] = []
        for entry in entries:
            known, ours = stored[entry.object_id], keys[entry.object_id]
            # A key with pages was in the index when we took it: if it left since, it was forgotten.
            agreed = known.wrapped_key == ours.wrapped_key if known else not ours.pages
            if not agreed:
                refused.append(entry)
                continue
            segment = segments[entry.place.segment]
            if segment is None:
                # It left before the page could be entered: its file was deleted, or it was closed
                # without waiting for a thread that hung.
                refused.append(entry)
                continue
            key = page_key(entry.object_id, entry.index)
            earlier = tables.place(txn, key)
            if earlier is None:
                added[entry.object_id] = added.get(entry.object_id, 0) + 1
            elif tables.segment(txn, earlier.segment) is not None:
                continue  # another thread or process was faster; ours is never found, and leaves
            tables.put_place(txn, key, entry.place)
            segment.pages += 1
            contents.setdefault(entry.place.segment, []).append(entry)
        for object_id, count in added.items():
            before = stored[object_id] or keys[object_id]
            record = ObjectRecord(before.key_number, before.pages + count, before.wrapped_key)
            tables.put_object(txn, object_id, record)
        for number, listed in contents.items():
            self._list(txn, number, segments[number], listed)
        return refused

    def _drop_keyless(self, txn: Transaction, entries: Sequence[Entry]) -> None:
        """Take out the old pages of objects that have no key: nobody can open them. A process that
        died while it forgot a large object leaves such pages."""
        for entry in entries:
            key = page_key(entry.object_id, entry.index)
            place = self._tables.place(txn, key)
            if place is not None:
                self._tables.delete_place(txn, key)
                self._space.page_left(txn, place.segment)

    def _list(
        self, txn: Transaction, number: int, segment: SegmentRecord | None, entries: list[Entry]
    ) -> None:
        assert segment is not None
        page_keys = [page_key(entry.object_id, entry.index) for entry in entries]
        self._tables.put_contents(txn, number, entries[0].place.offset, page_keys)
        last = entries[-1].place
        self._space.grew(txn, number, segment, last.offset + last.stored)


def _objects_of(entries: Iterable[Entry]) -> set[bytes]:
    return {entry.object_id for entry in entries}
