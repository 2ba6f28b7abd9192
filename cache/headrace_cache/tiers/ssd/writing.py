"""Sealing a batch of pages into this process's segment, and entering them into the index."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.page import PageId
from headrace_cache.tiers.ssd.folder import OpenFolder
from headrace_cache.tiers.ssd.index import Entry, Notes
from headrace_cache.tiers.ssd.records import MOST_PAGES, ObjectRecord, Place
from headrace_cache.tiers.ssd.sealing import KeyWrap, ScratchPool, new_data_key, seal
from headrace_cache.tiers.ssd.segments import SegmentWriter

#: How often a page is sealed again because its object got another key meanwhile. Each time the
#: other side has finished, so a third time would need a third process at the same instant.
_MOST_ROUNDS = 3

#: Entries in one transaction; `limits` reckons with it.
_MOST_ENTRIES = 512


def open_data_key(wrap: KeyWrap, object_id: bytes, record: ObjectRecord) -> AESGCM | None:
    """The cipher of an object's data key; None where it was wrapped by another key."""
    key = wrap.unwrap(record.wrapped_key, object_id)
    return None if key is None else AESGCM(key)


class BatchWriter:
    """Writes batches of pages; one segment per process, one page at a time into it."""

    def __init__(self, folder: OpenFolder, page_bytes: int, scratch: ScratchPool) -> None:
        self._folder = folder
        self._page_bytes = page_bytes
        self._scratch = scratch
        # Held while a page is written: the file system takes one writer per file anyway. Sealing,
        # the greater part of the work, is done before it is taken.
        self._lock = threading.Lock()
        self._segment: SegmentWriter | None = None

    def write(
        self, pages: Sequence[tuple[PageId, memoryview]], take_notes: Callable[[], Notes]
    ) -> bool:
        """Store the pages that are not held; False where no segment could be had for some.

        Raises OSError, IndexFault.
        """
        pending = [
            (self._folder.ids.of(page.version), page.index, view)
            for page, view in pages
            if 0 < len(view) <= self._page_bytes and page.index < MOST_PAGES
        ]
        for _ in range(_MOST_ROUNDS):
            if not pending:
                return True
            room, refused = self._round(pending, take_notes)
            if not room:
                return False
            again = {(entry.object_id, entry.index) for entry in refused}
            pending = [page for page in pending if (page[0], page[1]) in again]
        return True

    def close(self) -> None:
        """Close the segment at its real size. Raises OSError, IndexFault."""
        with self._lock:
            writer, self._segment = self._segment, None
            if writer is not None:
                self._close(writer)

    def abandon_in_child(self) -> None:
        """Close the inherited file; the lock on it stays with the parent, who goes on writing."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _round(
        self, pages: Sequence[tuple[bytes, int, memoryview]], take_notes: Callable[[], Notes]
    ) -> tuple[bool, list[Entry]]:
        folder = self._folder
        survey = folder.index.survey(
            [(object_id, index) for object_id, index, _ in pages], sure=True
        )
        keys = dict(survey.objects)
        ciphers: dict[bytes, AESGCM] = {}
        entries: list[Entry] = []
        refused: list[Entry] = []
        for (object_id, index, view), place in zip(pages, survey.places, strict=True):
            if place is not None:
                continue
            cipher = ciphers.get(object_id)
            if cipher is None:
                cipher = ciphers[object_id] = self._cipher(object_id, keys)
            with self._scratch.lend() as scratch:
                where = self._append(seal(cipher, object_id, index, view, scratch), len(view))
            if where is None:
                if entries:
                    folder.index.enter(entries, keys, take_notes())
                return False, []
            if entries and (
                entries[-1].place.segment != where.segment or len(entries) == _MOST_ENTRIES
            ):
                refused += self._enter(entries, keys, take_notes())
                entries = []
            entries.append(Entry(object_id, index, where))
        if entries:
            refused += self._enter(entries, keys, take_notes())
        return True, refused

    def _enter(
        self, entries: list[Entry], keys: dict[bytes, ObjectRecord], notes: Notes
    ) -> list[Entry]:
        refused = self._folder.index.enter(entries, keys, notes)
        # From here on these keys are the index's, not new: if one leaves, it was forgotten, and
        # the rest of the batch must not bring it back.
        for object_id in {entry.object_id for entry in entries}:
            keys[object_id] = dataclasses.replace(keys[object_id], pages=1)
        return refused

    def _cipher(self, object_id: bytes, keys: dict[bytes, ObjectRecord]) -> AESGCM:
        wrap = self._folder.wrap
        record = keys.get(object_id)
        cipher = None if record is None else open_data_key(wrap, object_id, record)
        if cipher is None:
            key = new_data_key()
            keys[object_id] = ObjectRecord(self._folder.key_number, 0, wrap.wrap(key, object_id))
            cipher = AESGCM(key)
        return cipher

    def _append(self, sealed: memoryview, plain: int) -> Place | None:
        with self._lock:
            if self._segment is not None:
                offset = self._segment.append(sealed)
                if offset is not None:
                    return Place(self._segment.segment, offset, len(sealed), plain)
                full, self._segment = self._segment, None
                self._close(full)
            with self._folder.environment.write() as txn:
                self._segment = self._folder.space.open_segment(txn)
            if self._segment is None:
                return None
            offset = self._segment.append(sealed)
            if offset is None:  # taken over with less room left than this page needs
                return None
            return Place(self._segment.segment, offset, len(sealed), plain)

    def _close(self, writer: SegmentWriter) -> None:
        try:
            with self._folder.environment.write() as txn:
                self._folder.space.close_segment(txn, writer)
        finally:
            writer.close()
