"""The one segment that this process appends to, and when the next one takes its place.

A segment that is closed without an indexed page is removed, and one that is closed may be evicted.
So a segment is turned over only when all that was written to it is entered into the index: who
finds it full enters its own pages first, and waits for the other threads to enter theirs.
"""

from __future__ import annotations

import threading

from headrace_cache.tiers.ssd.folder import OpenFolder
from headrace_cache.tiers.ssd.records import Place
from headrace_cache.tiers.ssd.segments import SegmentWriter

#: How long to wait for other threads to enter what they wrote: each has one page to seal and one
#: transaction to make, which takes milliseconds. Who is later than this is refused by the index,
#: and seals its pages again.
ENTER_WAIT_SECONDS = 10.0


class OwnSegment:
    """This process's segment. Safe to use from many threads, one of which writes at a time."""

    def __init__(self, folder: OpenFolder) -> None:
        self._folder = folder
        self._clock = folder.clock
        # Held while a page is written: the file system takes one writer per file anyway. Sealing,
        # the greater part of the work, is done before it is taken.
        self._changed = threading.Condition()
        self._writer: SegmentWriter | None = None
        self._full = False
        #: Pages that were written to the segment and are not entered yet.
        self._waiting = 0

    def append(self, sealed: memoryview, plain: int) -> Place | None:
        """Write a page, which the caller is to enter and report by `entered`.

        None where the segment is full or there is none: the caller enters all that it wrote, and
        then calls `append_to_next`. Raises OSError.
        """
        with self._changed:
            return self._append(sealed, plain)

    def append_to_next(self, sealed: memoryview, plain: int) -> Place | None:
        """Write a page as `append` does, into another segment where this one is full; the caller
        has entered all that it wrote. None where no segment could be had. Raises OSError,
        IndexFault."""
        with self._changed:
            while True:
                # Another thread may have been faster at getting the next segment, and at filling
                # it: then it is turned over too, and that thread has got on.
                place = self._append(sealed, plain)
                if place is not None:
                    return place
                full = self._writer
                if full is not None:
                    self._wait_until_entered(full)
                    if self._writer is full:
                        self._close()
                elif not self._open(len(sealed)):
                    return None

    def entered(self, segment: int, pages: int) -> None:
        """So many pages that were written to the segment are entered, or given up."""
        with self._changed:
            if self._writer is not None and self._writer.segment == segment:
                self._waiting = max(0, self._waiting - pages)
                if not self._waiting:
                    self._changed.notify_all()

    def close(self) -> None:
        """Close the segment at its real size. Raises OSError, IndexFault."""
        with self._changed:
            if self._writer is not None:
                self._close()

    def abandon_in_child(self) -> None:
        """Close the inherited file; the lock on it stays with the parent, who goes on writing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _append(self, sealed: memoryview, plain: int) -> Place | None:
        writer = self._writer
        # Once full it stays so, or small pages of others would keep the larger one waiting.
        if writer is None or self._full:
            return None
        # A file that somebody deleted would take pages that nobody can read.
        offset = writer.append(sealed) if writer.is_linked() else None
        if offset is None:
            self._full = True
            return None
        self._waiting += 1
        return Place(writer.segment, offset, len(sealed), plain, int(self._clock.now()))

    def _wait_until_entered(self, full: SegmentWriter) -> None:
        self._changed.wait_for(
            lambda: self._writer is not full or not self._waiting, ENTER_WAIT_SECONDS
        )

    def _open(self, least_bytes: int) -> bool:
        writer: SegmentWriter | None = None
        try:
            with self._folder.environment.write() as txn:
                writer = self._folder.space.open_segment(txn, least_bytes)
        except BaseException:
            # Nothing was committed: the index knows of no segment that we could write to.
            if writer is not None:
                writer.close()
            raise
        self._writer, self._full, self._waiting = writer, False, 0
        return writer is not None

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        self._changed.notify_all()
        if writer is None:
            return
        try:
            with self._folder.environment.write() as txn:
                self._folder.space.close_segment(txn, writer)
        finally:
            writer.close()
