"""What the SSD tier knows of its pages: found, entered and forgotten in batches, one transaction
each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import TierUsage
from headrace_cache.tiers.ssd.keyring import Keyring, ScopeKey
from headrace_cache.tiers.ssd.limits import BYTES_PER_SCOPE, Limits
from headrace_cache.tiers.ssd.records import ObjectRecord, Place, SegmentRecord, page_key
from headrace_cache.tiers.ssd.scopes import Scopes
from headrace_cache.tiers.ssd.space import SWEEP_PAGES, Space
from headrace_cache.tiers.ssd.tables import Tables, Transaction
from headrace_namespace.metadata.lmdb_env import IndexFull

#: How often a batch is entered where the index's map is full: again after dead readers were cleared
#: and segments left. What does not fit then will not fit soon.
_MOST_TRIES = 2

#: How much of the index scopes without objects may take before they are cleared out, which costs a
#: new key-encryption key and the wrapping of all others.
_UNTIDY_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One page that was written and is to be found from now on."""

    object_id: bytes
    index: int
    place: Place


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """An object's data key, and whether it was found in the index (else it is new)."""

    data_key: bytes
    published: bool


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object that the index knows, and the scope by whose key it can be opened."""

    record: ObjectRecord
    scope: ScopeKey

    def data_key(self, object_id: bytes) -> bytes | None:
        """The object's data key; None where the record is damaged."""
        return self.scope.wrap.unwrap(self.record.wrapped_key, object_id)

    def is_within(self, scope: Scope) -> bool:
        """Whether a rule on any folder of `scope` would find the object."""
        return self.scope.scope is not None and scope.within(self.scope.scope)


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of some pages: where each lies (None: nowhere), their objects, how many
    segments ever left, by which an open file that was unlinked is suspected, and the number of the
    key-encryption key at that time."""

    places: Sequence[Place | None]
    objects: Mapping[bytes, KnownObject]
    evictions: int
    key_number: int


@dataclass(frozen=True, slots=True)
class Notes:
    """What readers found and the next transaction writes down: the segments that were read from,
    and the page entries that led to nothing."""

    used: frozenset[int] = frozenset()
    broken: tuple[tuple[bytes, Place], ...] = ()


class SsdIndex:
    """The index of one folder. Safe to use from many threads and processes."""

    def __init__(self, tables: Tables, keyring: Keyring, space: Space, limits: Limits) -> None:
        self._tables = tables
        self._keyring = keyring
        self._space = space
        self._limits = limits

    def survey(self, pages: Sequence[tuple[bytes, int]], *, sure: bool = False) -> Survey:
        """Look up pages by object id and index. With `sure`, a page whose segment left is None
        (else a reader finds out for itself, one look-up the cheaper). Raises IndexFault."""
        return self._keyring.renewed(lambda: self._survey(pages, sure=sure))

    def key_number(self) -> int:
        """The number of the key-encryption key now. Raises IndexFault."""
        with self._tables.environment.read() as txn:
            record = self._tables.key(txn)
        return 0 if record is None else record.number

    def _survey(self, pages: Sequence[tuple[bytes, int]], *, sure: bool) -> Survey:
        tables = self._tables
        places: list[Place | None] = []
        objects: dict[bytes, KnownObject] = {}
        alive: dict[int, bool] = {}
        with tables.environment.read() as txn:
            keys = self._keyring.within(txn)
            scopes = Scopes(tables, txn, keys)
            for object_id, index in pages:
                if object_id not in objects:
                    record = tables.object(txn, object_id)
                    scope = None if record is None else scopes.of(record)
                    if record is None or scope is None:
                        places.append(None)
                        continue
                    objects[object_id] = KnownObject(record, scope)
                place = tables.place(txn, page_key(object_id, index))
                if place is not None and sure:
                    known = alive.get(place.segment)
                    if known is None:
                        known = tables.segment(txn, place.segment) is not None
                        alive[place.segment] = known
                    place = place if known else None
                places.append(place)
            scopes.remember()
            evictions = tables.totals(txn).evictions
        return Survey(places, objects, evictions, keys.number)

    def enter(
        self,
        entries: Sequence[Entry],
        keys: Mapping[bytes, ObjectKey],
        scopes: Mapping[bytes, Scope],
        notes: Notes,
    ) -> list[Entry]:
        """Let pages be found, each sealed under its object's key in `keys`; and take `notes`. From
        then on a purge finds the objects by their `scopes`.

        Returns the entries whose object has another key by now, because another process stored it
        at the same time or it was forgotten or purged, and those whose segment left: they were not
        entered and must be sealed again.
        Where the index is too full and nothing can leave, the batch is passed over. Raises
        IndexFault.
        """
        return self._keyring.renewed(lambda: self._tried(entries, keys, scopes, notes))

    def _tried(
        self,
        entries: Sequence[Entry],
        keys: Mapping[bytes, ObjectKey],
        scopes: Mapping[bytes, Scope],
        notes: Notes,
    ) -> list[Entry]:
        for _ in range(_MOST_TRIES):
            try:
                with self._tables.environment.write() as txn:
                    self._take(txn, notes)
                    self._space.sweep(txn)
                    # A batch is small beside the share that is kept free; the test is by batch.
                    if not self._space.relieve_index(txn):
                        return []
                    return self._enter(txn, entries, keys, scopes)
            except IndexFull:
                # A reader that hangs on to an old state keeps freed pages from being used again.
                self._tables.environment.clear_dead_readers()
                with self._tables.environment.write() as txn:
                    self._space.relieve_index(txn)
        return []

    def widen(self, scopes: Mapping[bytes, Scope]) -> None:
        """Let a purge find these objects by their new scopes too. Raises IndexFault."""
        self._keyring.renewed(lambda: self._widen(scopes))

    def _widen(self, scopes: Mapping[bytes, Scope]) -> None:
        with self._tables.environment.write() as txn:
            here = Scopes(self._tables, txn, self._keyring.within(txn))
            for object_id, scope in scopes.items():
                record = self._tables.object(txn, object_id)
                old = None if record is None else here.of(record)
                if record and old and not KnownObject(record, old).is_within(scope):
                    here.widen(object_id, record, old, scope)

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
                    keyless = ObjectRecord(record.scope, 0, record.wrapped_key)
                    self._tables.put_object(txn, object_id, keyless)
                self._tables.delete_pin(txn, object_id)
                pages, taken = self._space.take_out(txn, object_id, SWEEP_PAGES)
                forgotten += taken
            if pages < SWEEP_PAGES:
                return forgotten

    def _knows(self, object_id: bytes) -> bool:
        with self._tables.environment.read() as txn:
            return (
                self._tables.object(txn, object_id) is not None
                or self._tables.is_pinned(txn, object_id)
                or len(self._tables.places_of(txn, object_id, 1)) > 0
            )

    def is_untidy(self) -> bool:
        """Whether scopes without objects take more of the index than they should."""
        with self._tables.environment.read() as txn:
            empty = self._tables.scope_totals(txn).empty
        return empty * BYTES_PER_SCOPE > self._limits.index_full_bytes * _UNTIDY_SHARE

    def usage(self) -> TierUsage:
        """Bytes of sealed pages and of the index in use, over all processes. Raises IndexFault."""
        with self._tables.environment.read() as txn:
            used = self._tables.totals(txn).written + self._tables.bytes_in_use(txn)
            objects = self._tables.scope_totals(txn).objects
            return TierUsage(used, self._limits.limit_bytes, objects)

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
        self,
        txn: Transaction,
        entries: Sequence[Entry],
        keys: Mapping[bytes, ObjectKey],
        scopes: Mapping[bytes, Scope],
    ) -> list[Entry]:
        tables = self._tables
        here = Scopes(tables, txn, self._keyring.within(txn))
        added: dict[bytes, int] = {}
        agreed = {
            object_id: self._agreed(txn, here, object_id, keys[object_id], scopes[object_id])
            for object_id in _objects_of(entries)
        }
        pinned = {name for name in agreed if tables.pins(txn) and tables.is_pinned(txn, name)}
        segments = {n: tables.segment(txn, n) for n in {e.place.segment for e in entries}}
        contents: dict[int, list[Entry]] = {}
        refused: list[Entry] = []
        for entry in entries:
            # Where the segment is gone, its file was deleted, or it was closed without waiting for
            # a thread that hung: it left before the page could be entered.
            segment = segments[entry.place.segment]
            if agreed[entry.object_id] is None or segment is None:
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
            segment.pinned |= entry.object_id in pinned
            contents.setdefault(entry.place.segment, []).append(entry)
        fresh: Counter[int] = Counter()
        for object_id, count in added.items():
            before = agreed[object_id]
            assert before is not None
            record = ObjectRecord(before.scope, before.pages + count, before.wrapped_key)
            tables.put_uncounted(txn, object_id, record)
            fresh[before.scope] += not before.pages
        for scope, objects in fresh.items():
            tables.count_objects(txn, scope, objects)
        for number, listed in contents.items():
            self._list(txn, number, segments[number], listed)
        return refused

    def _agreed(
        self, txn: Transaction, here: Scopes, object_id: bytes, ours: ObjectKey, wanted: Scope
    ) -> ObjectRecord | None:
        """The object's record, which wraps our key and can be found by the wanted scope; None where
        the pages that were sealed under our key must not be entered."""
        record = self._tables.object(txn, object_id)
        scope = None if record is None else here.of(record)
        if record is not None and scope is not None:
            known = KnownObject(record, scope)
            if known.data_key(object_id) != ours.data_key:
                return None
            return (
                record if known.is_within(wanted) else here.widen(object_id, record, scope, wanted)
            )
        # A key that was in the index and is no more was forgotten or purged: it must not come back.
        if ours.published or not self._clear_leftovers(txn, object_id, record):
            return None
        made = here.made(wanted)
        return ObjectRecord(made.number, 0, made.wrap.wrap(ours.data_key, object_id))

    def _clear_leftovers(
        self, txn: Transaction, object_id: bytes, record: ObjectRecord | None
    ) -> bool:
        """Take out the old pages of an object that has no key: nobody can open them. A process that
        died while it forgot or purged leaves such pages, and one that is at it just now. False
        where there are more than one transaction should take."""
        pages, _ = self._space.take_out(txn, object_id, SWEEP_PAGES)
        if record is not None and pages < SWEEP_PAGES:
            self._tables.put_object(txn, object_id, ObjectRecord(record.scope, 0, b""))
            self._tables.delete_pin(txn, object_id)
        return pages < SWEEP_PAGES

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
