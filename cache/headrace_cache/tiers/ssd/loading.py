"""Opening sealed pages: looked up in one transaction, read, and opened straight into the caller's
memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.ssd.folder import OpenFolder
from headrace_cache.tiers.ssd.notes import NoteBook
from headrace_cache.tiers.ssd.records import MOST_PAGES, Place, page_key
from headrace_cache.tiers.ssd.sealing import HEADER_BYTES, ScratchPool, unseal


class PageLoader:
    """One load. What leads to nothing goes into `notes`, and by `say` into the log."""

    def __init__(
        self,
        folder: OpenFolder,
        scratch: ScratchPool,
        notes: NoteBook,
        say: Callable[[str, str], None],
    ) -> None:
        self._folder = folder
        self._scratch = scratch
        self._notes = notes
        self._say = say

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """Fill what can be filled, and say which. Raises OSError, IndexFault."""
        folder, filled = self._folder, [False] * len(pages)
        wanted = [
            (folder.ids.of(page.version), page.index if page.index < MOST_PAGES else 0)
            for page, _ in pages
        ]
        survey = folder.index.survey(wanted)
        if self._notes.evicted_since(survey.evictions):
            folder.reader.drop_unlinked()
        ciphers: dict[bytes, AESGCM | None] = {}
        with self._scratch.lend() as scratch:
            for position, ((object_id, index), place) in enumerate(
                zip(wanted, survey.places, strict=True)
            ):
                page, target = pages[position]
                if place is None or place.plain != len(target) or page.index != index:
                    continue
                if object_id not in ciphers:
                    key = survey.objects[object_id].data_key(object_id)
                    ciphers[object_id] = None if key is None else AESGCM(key)
                cipher = ciphers[object_id]
                sealed = scratch.sealed[: place.stored]
                if cipher is None or not self._read(object_id, index, place, sealed):
                    continue
                if unseal(cipher, object_id, index, sealed, target, scratch):
                    filled[position] = True
                    self._notes.used(place.segment)
                else:
                    self._broken(object_id, index, place, "a page is damaged")
        # A purge that ended while the disk was read has promised that nobody opens its pages.
        if any(filled) and folder.index.key_number() != survey.key_number:
            alive = folder.index.survey(wanted).objects
            for position, (object_id, _) in enumerate(wanted):
                filled[position] &= object_id in alive
        return filled

    def _read(self, object_id: bytes, index: int, place: Place, sealed: memoryview) -> bool:
        if not HEADER_BYTES < place.stored == len(sealed):
            self._broken(object_id, index, place, "an index entry is damaged")
            return False
        try:
            if self._folder.reader.read(place.segment, place.offset, sealed):
                return True
            self._broken(object_id, index, place, "a segment file was cut short")
        except FileNotFoundError:
            # Evicted, most likely, and its entries not swept yet; or deleted by a stranger.
            self._notes.broken(page_key(object_id, index), place)
        except OSError as error:
            self._broken(object_id, index, place, f"a segment file cannot be read: {error}")
        return False

    def _broken(self, object_id: bytes, index: int, place: Place, what: str) -> None:
        self._notes.broken(page_key(object_id, index), place)
        # Evicted while it was read: nobody's fault, and nothing to tell.
        if not self._folder.reader.has_left(place.segment):
            self._say("broken", f"{what}; it is fetched again from its store")
