"""Since when the pages of one object are held, and forgetting those that are too old."""

from __future__ import annotations

from headrace_cache.tiers.protocol import HeldPage
from headrace_cache.tiers.ssd.records import MOST_PAGES, Place, page_index
from headrace_cache.tiers.ssd.space import SWEEP_PAGES, Space
from headrace_cache.tiers.ssd.tables import Tables, Transaction


class Ages:
    """The ages of one folder's pages. Methods raise IndexFault."""

    def __init__(self, tables: Tables, space: Space) -> None:
        self._tables = tables
        self._space = space

    def inspect(self, object_id: bytes) -> list[HeldPage]:
        """The object's pages, by index."""
        tables = self._tables
        with tables.environment.read() as txn:
            if not self._can_open(txn, object_id):
                return []
            return [
                HeldPage(page_index(key), place.plain, float(place.stored_at))
                for key, place in tables.places_of(txn, object_id, MOST_PAGES)
                if tables.segment(txn, place.segment) is not None
            ]

    def expire(self, object_id: bytes, before: float) -> int:
        """Forget the object's pages stored before this time, in bounded transactions; their plain
        bytes. Seconds are whole, so a page may leave up to one too early."""
        expired = start = 0
        while start < MOST_PAGES:
            with self._tables.environment.read() as txn:
                if not self._can_open(txn, object_id):
                    break
                found = self._tables.places_of(txn, object_id, SWEEP_PAGES, start)
            old = [(key, place) for key, place in found if place.stored_at < before]
            if old:
                expired += self._take_out(old)
            if len(found) < SWEEP_PAGES:
                break
            start = page_index(found[-1][0]) + 1
        return expired

    def _take_out(self, old: list[tuple[bytes, Place]]) -> int:
        taken = 0
        with self._tables.environment.write() as txn:
            for key, place in old:
                if self._tables.place(txn, key) == place:
                    self._space.unlist(txn, key)
                    if self._tables.segment(txn, place.segment) is not None:
                        taken += place.plain
                        self._space.page_left(txn, place.segment)
        return taken

    def _can_open(self, txn: Transaction, object_id: bytes) -> bool:
        record = self._tables.object(txn, object_id)
        return record is not None and self._tables.scope(txn, record.scope) is not None
