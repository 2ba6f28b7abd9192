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
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import HeldPage, PurgeReport, TierUsage
from headrace_cache.tiers.ssd.folder import FolderUnusable, OpenFolder, open_folder
from headrace_cache.tiers.ssd.index import Notes
from headrace_cache.tiers.ssd.key_swap import KeyFile
from headrace_cache.tiers.ssd.limits import Limits
from headrace_cache.tiers.ssd.loading import PageLoader
from headrace_cache.tiers.ssd.notes import NoteBook
from headrace_cache.tiers.ssd.purging import purge, tidy
from headrace_cache.tiers.ssd.records import MOST_PAGES, page_key
from headrace_cache.tiers.ssd.sealing import MOST_LOADING, MOST_STORING, ScratchPool
from headrace_cache.tiers.ssd.writing import BatchWriter
from headrace_namespace.clock import Clock
from headrace_namespace.errors import ConfigError
from headrace_namespace.metadata.lmdb_env import IndexDamaged, IndexFault

_Answer = TypeVar("_Answer")

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

    def __init__(self, folder: Path, limits: Limits, key_file: KeyFile, clock: Clock) -> None:
        """Open the folder. Raises FolderUnusable, IndexFault, OSError, ConfigError."""
        self._path = folder
        self._limits = limits
        self._key_file = key_file
        self._clock = clock
        self._make_scratch()
        self._gate = threading.Condition()
        self._users = 0
        self._pid = os.getpid()
        self._folder: OpenFolder | None = None
        self._writer: BatchWriter | None = None
        self._closed = False
        #: A purge failed: nothing is served before one succeeds.
        self._unpurged = False
        self._quiet_until = 0.0
        self._untidy_until = 0.0
        self._said: set[str] = set()
        self._notes = NoteBook()
        with self._gate:
            self._open()

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """See `PageTier`."""

        def work(folder: OpenFolder) -> list[bool]:
            loader = PageLoader(folder, self._load_scratch, self._notes, self._say)
            filled = loader.load(pages)
            if self._notes.many_used():
                folder.index.note(self._notes.take())
            return filled

        # What failed midway has not looked for a purge meanwhile: then all of it is a miss.
        return self._asked("load", [False] * len(pages), work)

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        """See `PageTier`. Pages that are held already are passed over."""
        self.store_each([(page, view, scope) for page, view in pages])

    def store_each(self, pages: Sequence[tuple[PageId, memoryview, Scope]]) -> None:
        """See `PageTier`."""
        if self._clock.monotonic() < self._quiet_until:
            return
        try:
            with self._using() as (folder, writer):
                if not writer.write(pages):
                    self._say(
                        "room",
                        "some pages are not kept: other processes hold all of its room, "
                        "or replace the same objects at every try",
                    )
                if folder.index.is_untidy():
                    self._tidy(folder)
        except _Off:
            return
        except (OSError, IndexFault) as error:
            self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
            self._trouble("store", error)

    def holds(self, page: PageId) -> bool:
        """See `PageTier`."""
        if page.index >= MOST_PAGES:
            return False

        def work(folder: OpenFolder) -> bool:
            object_id = folder.ids.of(page.version)
            place = folder.index.survey([(object_id, page.index)], sure=True).places[0]
            return place is not None and not self._notes.is_broken(
                page_key(object_id, page.index), place
            )

        return self._asked("look-up", False, work)

    def forget(self, version: bytes) -> int:
        """See `PageTier`. No process finds the pages from then on; what lies on the disk of them
        is noise without the key file, and for everybody after the next purge."""
        return self._asked("forget", 0, lambda folder: folder.index.forget(folder.ids.of(version)))

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        """See `PageTier`. Where it fails, the tier is off until one succeeds; that one destroys all
        that is there, for nobody remembers what the failed one should have."""
        try:
            with self._using(for_purge=True) as (folder, _):
                report = purge(folder, (lambda _: True) if self._unpurged else covers)
                self._unpurged = False
                return report
        except _Off:
            raise OSError(
                f"the SSD tier in {self._path} is closed or off, so nothing can be purged there; "
                "open the cache again, or delete its key file"
            ) from None
        except (OSError, IndexFault, FolderUnusable, ConfigError) as error:
            self._unpurged = True
            self._say("purge", f"it is off, because it could not be purged: {error}")
            raise OSError(
                f"the SSD tier in {self._path} could not be purged and is off: {error}"
            ) from error

    def inspect(self, version: bytes) -> Sequence[HeldPage]:
        """See `PageTier`."""
        empty: Sequence[HeldPage] = ()
        return self._asked("look-up", empty, lambda f: f.ages.inspect(f.ids.of(version)))

    def expire(self, version: bytes, before: float) -> int:
        """See `PageTier`."""
        return self._asked("forget", 0, lambda f: f.ages.expire(f.ids.of(version), before))

    def pin(self, version: bytes) -> bool:
        """See `PageTier`. Pages of a pinned version that come later are kept too; where they need
        more than the room for pinned ones, the oldest leave."""
        return self._asked("pin", False, lambda f: f.pins.pin(f.ids.of(version)))

    def unpin(self, version: bytes) -> bool:
        """See `PageTier`."""
        return self._asked("unpin", False, lambda f: f.pins.unpin(f.ids.of(version)))

    def pinned(self, version: bytes) -> bool:
        """See `PageTier`."""
        return self._asked("look-up", False, lambda f: f.pins.pinned(f.ids.of(version)))

    def usage(self) -> TierUsage:
        """See `PageTier`: sealed pages and index entries, over all processes. The limit is 0 where
        the tier is closed, or was turned off."""
        limit = 0 if self._is_off() else self._limits.limit_bytes
        found = self._asked("usage", TierUsage(0, limit, 0), lambda f: f.index.usage())
        return TierUsage(0, 0, 0) if self._is_off() else found

    def flush(self) -> None:
        """See `PageTier`. Every store is entered before it returns; what is left are the notes of
        which segments were read, so that other processes do not let them leave."""
        notes = self._notes.take()
        if notes != Notes():
            self._asked("flush", None, lambda f: f.index.note(notes))

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
        self._make_scratch()  # threads that the child does not have may have been lent some
        if folder is not None and writer is not None:
            writer.abandon_in_child()
            folder.abandon_in_child()

    def _make_scratch(self) -> None:
        page_bytes = self._limits.page_bytes
        self._load_scratch = ScratchPool(page_bytes, MOST_LOADING)
        self._store_scratch = ScratchPool(page_bytes, MOST_STORING)

    def _open(self) -> tuple[OpenFolder, BatchWriter]:
        self._folder = open_folder(self._path, self._limits, self._key_file, self._clock)
        self._writer = BatchWriter(
            self._folder, self._limits.page_bytes, self._store_scratch, self._notes
        )
        return self._folder, self._writer

    def _tidy(self, folder: OpenFolder) -> None:
        if self._clock.monotonic() < self._untidy_until:
            return
        try:
            tidy(folder)
        except (OSError, IndexFault, FolderUnusable, ConfigError) as error:
            self._untidy_until = self._clock.monotonic() + QUIET_SECONDS
            self._trouble("clearing out", error)

    @contextmanager
    def _using(self, *, for_purge: bool = False) -> Generator[tuple[OpenFolder, BatchWriter]]:
        """The open folder, which is not closed before the block ends."""
        if self._pid != os.getpid():  # a fork that nobody told us of
            self.after_fork_in_child()
        with self._gate:
            if self._closed or (self._unpurged and not for_purge):
                raise _Off
            folder, writer = self._folder, self._writer
            if folder is None or writer is None:
                try:
                    folder, writer = self._open()
                except (FolderUnusable, IndexFault, OSError, ConfigError) as error:
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

    def _is_off(self) -> bool:
        return self._closed or self._unpurged

    def _asked(self, what: str, nothing: _Answer, work: Callable[[OpenFolder], _Answer]) -> _Answer:
        """What `work` finds; `nothing` where the tier is off, or the work fails."""
        try:
            with self._using() as (folder, _):
                return work(folder)
        except _Off:
            return nothing
        except (OSError, IndexFault) as error:
            self._trouble(what, error)
            return nothing

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
