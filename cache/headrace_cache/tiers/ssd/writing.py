"""Sealing a batch of pages into this process's segment, and entering them into the index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.ssd.folder import OpenFolder
from headrace_cache.tiers.ssd.index import Entry, KnownObject, ObjectKey
from headrace_cache.tiers.ssd.notes import NoteBook
from headrace_cache.tiers.ssd.own_segment import OwnSegment
from headrace_cache.tiers.ssd.records import MOST_PAGES, Place, page_key
from headrace_cache.tiers.ssd.sealing import Scratch, ScratchPool, new_data_key, seal

#: How often a page is sealed again because its object got another key meanwhile. Each time the
#: other side has finished, so a third time would need a third process at the same instant.
_MOST_ROUNDS = 3

#: Entries in one transaction; `limits` reckons with it.
_MOST_ENTRIES = 512


#: A page to be stored: the object's id, the page's index, its bytes.
_Page = tuple[bytes, int, memoryview]


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

    def write(self, pages: Sequence[tuple[PageId, memoryview, Scope]]) -> bool:
        """Store the pages that are not held; False where no segment could be had for some, or
        other processes changed what is known of their objects each time.

        Raises OSError, IndexFault.
        """
        pending: list[_Page] = []
        scopes: dict[bytes, Scope] = {}
        for page, view, scope in pages:
            if 0 < len(view) <= self._page_bytes and page.index < MOST_PAGES:
                object_id = self._folder.ids.of(page.version)
                pending.append((object_id, page.index, view))
                scopes[object_id] = scopes.setdefault(object_id, scope).joined(scope)
        # For the whole batch: who waits for scratch memory has written nothing that another would
        # wait to see entered.
        with self._scratch.lend() as scratch:
            for _ in range(_MOST_ROUNDS):
                if not pending:
                    return True
                room, refused = self._round(pending, scopes, scratch)
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

    def _round(
        self, pages: Sequence[_Page], scopes: Mapping[bytes, Scope], scratch: Scratch
    ) -> tuple[bool, list[Entry]]:
        survey = self._folder.index.survey(
            [(object_id, index) for object_id, index, _ in pages], sure=True
        )
        wider = {
            object_id: scopes[object_id]
            for object_id, known in survey.objects.items()
            if not known.is_within(scopes[object_id])
        }
        if wider:
            self._folder.index.widen(wider)
        keys: dict[bytes, ObjectKey] = {}
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
                    key = keys[object_id] = _key_of(object_id, survey.objects.get(object_id))
                    cipher = ciphers[object_id] = AESGCM(key.data_key)
                sealed = seal(cipher, object_id, index, view, scratch)
                where = self._segment.append(sealed, len(view))
                if where is None:
                    refused += self._enter(entries, keys, scopes)
                    where = self._segment.append_to_next(sealed, len(view))
                if where is None:
                    return False, []
                entries.append(Entry(object_id, index, where))
                if len(entries) == _MOST_ENTRIES:
                    refused += self._enter(entries, keys, scopes)
        finally:
            # After a failure too: what was written before it is whole.
            refused += self._enter(entries, keys, scopes)
        return True, refused

    def _is_broken(self, object_id: bytes, index: int, place: Place) -> bool:
        """Whether a reader found the page broken; the note of it is taken before ours is entered,
        so that ours takes its place."""
        return self._notes.is_broken(page_key(object_id, index), place)

    def _enter(
        self, entries: list[Entry], keys: dict[bytes, ObjectKey], scopes: Mapping[bytes, Scope]
    ) -> list[Entry]:
        """Enter what was written, and empty `entries`; those that must be sealed again."""
        if not entries:
            return []
        entered = list(entries)
        entries.clear()
        try:
            refused = self._folder.index.enter(entered, keys, scopes, self._notes.take())
        finally:
            self._segment.entered(entered[0].place.segment, len(entered))
        # From here on these keys are the index's, not new: if one leaves, it was forgotten, and
        # the rest of the batch must not bring it back.
        for object_id in {entry.object_id for entry in entered}:
            keys[object_id] = dataclasses.replace(keys[object_id], published=True)
        return refused


def _key_of(object_id: bytes, known: KnownObject | None) -> ObjectKey:
    """The key to seal the object's pages under: its own, or a new one."""
    data_key = None if known is None else known.data_key(object_id)
    return ObjectKey(new_data_key(), False) if data_key is None else ObjectKey(data_key, True)
