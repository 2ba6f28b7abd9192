"""The sealed SSD tier: pages beyond memory and beyond this process, and never in plain text.

Store: look up which pages are not held; seal each under its object's key; append it to this
process's segment; enter the batch into the index in one transaction. Load: look up the batch in one
transaction; read each sealed page; open it straight into the caller's memory. Whatever goes wrong
is a miss, said once in the log.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.page import PageId
from headrace_cache.tiers.protocol import TierUsage
from headrace_cache.tiers.ssd.folder import FolderUnusable, OpenFolder, open_folder
from headrace_cache.tiers.ssd.index import Notes
from headrace_cache.tiers.ssd.limits import Limits
from headrace_cache.tiers.ssd.notes import NoteBook
from headrace_cache.tiers.ssd.records import MOST_PAGES, Place, page_key
from headrace_cache.tiers.ssd.sealing import HEADER_BYTES, ScratchPool, unseal
from headrace_cache.tiers.ssd.writing import BatchWriter, open_data_key
from headrace_namespace.clock import Clock
from headrace_namespace.metadata.lmdb_env import IndexDamaged, IndexFault

_log = logging.getLogger(__name__)

#: After a failed store (disk full, input/output error) pages are not even sealed for this long: a
#: full disk seldom empties within seconds, and sealing costs the readers' CPU.
QUIET_SECONDS = 30.0

#: How long `close` waits for calls of other threads; each takes milliseconds.
_CLOSE_WAIT_SECONDS = 10.0


class _Off(Exception):
    """The tier is closed, or was turned off."""


class SsdTier:
    """A `PageTier` over one folder, which many processes may share. See `open_ssd_tier`."""

    def __init__(self, folder: Path, limits: Limits, key: bytes, clock: Clock) -> None:
        """Open the folder. Raises FolderUnusable, IndexFault, OSError."""
        self._path = folder
        self._limits = limits
        self._key = key
        self._clock = clock
        self._scratch = ScratchPool(limits.page_bytes)
        self._gate = threading.Condition()
        self._users = 0
        self._pid = os.getpid()
        self._folder: OpenFolder | None = None
        self._writer: BatchWriter | None = None
        self._closed = False
        self._quiet_until = 0.0
        self._said: set[str] = set()
        self._notes = NoteBook()
        with self._gate:
            self._open()

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """See `PageTier`."""
        filled = [False] * len(pages)
        try:
            with self._using() as (folder, _):
                self._load(folder, pages, filled)
                if self._notes.many_used():
                    folder.index.note(self._notes.take())
        except _Off:
            return filled
        except (OSError, IndexFault) as error:
            self._trouble("load", error)
        return filled

    def store(self, pages: Sequence[tuple[PageId, memoryview]]) -> None:
        """See `PageTier`. Pages that are held already are passed over."""
        if self._clock.monotonic() < self._quiet_until:
            return
        try:
            with self._using() as (_, writer):
                if not writer.write(pages):
                    self._say(
                        "room",
                        "some pages are not kept: other processes hold all of its room, "
                        "or replace the same objects at every try",
                    )
        except _Off:
            return
        except (OSError, IndexFault) as error:
            self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
            self._trouble("store", error)

    def holds(self, page: PageId) -> bool:
        """See `PageTier`."""
        if page.index >= MOST_PAGES:
            return False
        try:
            with self._using() as (folder, _):
                object_id = folder.ids.of(page.version)
                place = folder.index.survey([(object_id, page.index)], sure=True).places[0]
                return place is not None and not self._notes.is_broken(
                    page_key(object_id, page.index), place
                )
        except _Off:
            return False
        except (OSError, IndexFault) as error:
            self._trouble("look-up", error)
            return False

    def forget(self, version: bytes) -> int:
        """See `PageTier`. The data key goes first: from then on the pages are noise."""
        try:
            with self._using() as (folder, _):
                return folder.index.forget(folder.ids.of(version))
        except _Off:
            return 0
        except (OSError, IndexFault) as error:
            self._trouble("forget", error)
            return 0

    def usage(self) -> TierUsage:
        """See `PageTier`: sealed pages and index entries, over all processes. The limit is 0 where
        the tier is closed, or was turned off."""
        try:
            with self._using() as (folder, _):
                return folder.index.usage()
        except _Off:
            return TierUsage(0, 0, 0)
        except (OSError, IndexFault) as error:
            self._trouble("usage", error)
            return TierUsage(0, 0 if self._closed else self._limits.limit_bytes, 0)

    def flush(self) -> None:
        """See `PageTier`. Every store is entered before it returns; what is left are the notes of
        which segments were read, so that other processes do not let them leave."""
        notes = self._notes.take()
        if notes == Notes():
            return
        try:
            with self._using() as (folder, _):
                folder.index.note(notes)
        except _Off:
            return
        except (OSError, IndexFault) as error:
            self._trouble("flush", error)

    def close(self) -> None:
        """See `PageTier`. Later calls find and keep nothing."""
        self.flush()
        with self._gate:
            self._closed = True
            folder, writer = self._folder, self._writer
            self._folder = self._writer = None
            if not self._gate.wait_for(lambda: not self._users, _CLOSE_WAIT_SECONDS):
                # Closing under a reader could hand it another file's bytes; the end of the
                # process closes everything.
                self._say("close", "a call has not ended; its files stay open")
                return
        if folder is None or writer is None:
            return
        try:
            writer.close()
        except (OSError, IndexFault) as error:
            self._trouble("close", error)
        folder.close()

    def after_fork_in_child(self) -> None:
        """Let go of the parent's files; the next call opens the folder for this process."""
        folder, writer = self._folder, self._writer
        # New locks: a thread that the child does not have may hold the old ones.
        self._gate = threading.Condition()
        self._users = 0
        self._pid = os.getpid()
        self._folder = self._writer = None
        self._notes = NoteBook()
        if folder is not None and writer is not None:
            writer.abandon_in_child()
            folder.abandon_in_child()

    def _open(self) -> tuple[OpenFolder, BatchWriter]:
        self._folder = open_folder(self._path, self._limits, self._key, self._clock)
        self._writer = BatchWriter(
            self._folder, self._limits.page_bytes, self._scratch, self._notes
        )
        return self._folder, self._writer

    @contextmanager
    def _using(self) -> Generator[tuple[OpenFolder, BatchWriter]]:
        """The open folder, which is not closed before the block ends."""
        if self._pid != os.getpid():  # a fork that nobody told us of
            self.after_fork_in_child()
        with self._gate:
            if self._closed:
                raise _Off
            folder, writer = self._folder, self._writer
            if folder is None or writer is None:
                try:
                    folder, writer = self._open()
                except (FolderUnusable, IndexFault, OSError) as error:
                    self._closed = True
                    self._say("open", f"it cannot be used and is off: {error}")
                    raise _Off from error
            self._users += 1
        try:
            yield folder, writer
        finally:
            with self._gate:
                self._users -= 1
                if self._closed:
                    self._gate.notify_all()

    def _load(
        self, folder: OpenFolder, pages: Sequence[tuple[PageId, memoryview]], filled: list[bool]
    ) -> None:
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
                    ciphers[object_id] = open_data_key(
                        folder.wrap, object_id, survey.objects[object_id]
                    )
                cipher = ciphers[object_id]
                sealed = scratch.sealed[: place.stored]
                if cipher is None or not self._read(folder, object_id, index, place, sealed):
                    continue
                if unseal(cipher, object_id, index, sealed, target, scratch):
                    filled[position] = True
                    self._notes.used(place.segment)
                else:
                    self._broken(object_id, index, place, "a page is damaged")

    def _read(
        self, folder: OpenFolder, object_id: bytes, index: int, place: Place, sealed: memoryview
    ) -> bool:
        if not HEADER_BYTES < place.stored == len(sealed):
            self._broken(object_id, index, place, "an index entry is damaged")
            return False
        try:
            if folder.reader.read(place.segment, place.offset, sealed):
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
        self._say("broken", f"{what}; it is fetched again from its store")

    def _trouble(self, what: str, error: Exception) -> None:
        if isinstance(error, IndexDamaged):
            self._closed = True
            self._say("damaged", f"it is off: {error}")
        else:
            self._say(f"{what} {type(error).__name__}", f"{what} failed: {error}")

    def _say(self, kind: str, message: str) -> None:
        """Warn of each kind of trouble once; a cache that fails is passed over, not argued with."""
        if kind not in self._said:
            self._said.add(kind)
            _log.warning("the SSD tier in %s: %s", self._path, message)
