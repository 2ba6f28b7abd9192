"""Sealing a batch of pages into this process's segment, and entering them into the index."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.page import PageId
from headrace_cache.tiers.ssd.folder import OpenFolder
from headrace_cache.tiers.ssd.index import Entry
from headrace_cache.tiers.ssd.notes import NoteBook
from headrace_cache.tiers.ssd.own_segment import OwnSegment
from headrace_cache.tiers.ssd.records import MOST_PAGES, ObjectRecord, Place, page_key
from headrace_cache.tiers.ssd.sealing import KeyWrap, ScratchPool, new_data_key, seal

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

    def __init__(
        self, folder: OpenFolder, page_bytes: int, scratch: ScratchPool, notes: NoteBook
    ) -> None:
        self._folder = folder
        self._page_bytes = page_bytes
        self._scratch = scratch
        self._notes = notes
        self._segment = OwnSegment(folder)

    def write(self, pages: Sequence[tuple[PageId, memoryview]]) -> bool:
        """Store the pages that are not held; False where no segment could be had for some, or
        other processes changed what is known of their objects each time.

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
            room, refused = self._round(pending)
            if not room:
                return False
            again = {(entry.object_id, entry.index) for entry in refused}
            pending = [page for page in pending if (page[0], page[1]) in again]
        return not pending

    def close(self) -> None:
        """Close the segment at its real size. Raises OSError, IndexFault."""
        self._segment.close()

    def abandon_in_child(self) -> None:
        """Close the inherited file; the lock on it stays with the parent, who goes on writing."""
        self._segment.abandon_in_child()

    def _round(self, pages: Sequence[tuple[bytes, int, memoryview]]) -> tuple[bool, list[Entry]]:
        survey = self._folder.index.survey(
            [(object_id, index) for object_id, index, _ in pages], sure=True
        )
        keys = dict(survey.objects)
        ciphers: dict[bytes, AESGCM] = {}
        #: Written and not entered; all in one segment, which stays open until they are entered.
        entries: list[Entry] = []
        refused: list[Entry] = []
        try:
            for (object_id, index, view), place in zip(pages, survey.places, strict=True):
                if place is not None and not self._is_broken(object_id, index, place):
                    continue
                cipher = ciphers.get(object_id)
                if cipher is None:
                    cipher = ciphers[object_id] = self._cipher(object_id, keys)
                with self._scratch.lend() as scratch:
                    sealed = seal(cipher, object_id, index, view, scratch)
                    where = self._segment.append(sealed, len(view))
                    if where is None:
                        refused += self._enter(entries, keys)
                        where = self._segment.append_to_next(sealed, len(view))
                if where is None:
                    return False, []
                entries.append(Entry(object_id, index, where))
                if len(entries) == _MOST_ENTRIES:
                    refused += self._enter(entries, keys)
        finally:
            # After a failure too: what was written before it is whole.
            refused += self._enter(entries, keys)
        return True, refused

    def _is_broken(self, object_id: bytes, index: int, place: Place) -> bool:
        """Whether a reader found the page broken; the note of it is taken before ours is entered,
        so that ours takes its place."""
        return self._notes.is_broken(page_key(object_id, index), place)

    def _enter(self, entries: list[Entry], keys: dict[bytes, ObjectRecord]) -> list[Entry]:
        """Enter what was written, and empty `entries`; those that must be sealed again."""
        if not entries:
            return []
        entered = list(entries)
        entries.clear()
        try:
            refused = self._folder.index.enter(entered, keys, self._notes.take())
        finally:
            self._segment.entered(entered[0].place.segment, len(entered))
        # From here on these keys are the index's, not new: if one leaves, it was forgotten, and
        # the rest of the batch must not bring it back.
        for object_id in {entry.object_id for entry in entered}:
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
