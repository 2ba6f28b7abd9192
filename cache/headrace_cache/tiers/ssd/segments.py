"""The segment files: one is written by one process at a time, and read by any.

A segment is a run of sealed pages (see `sealing`) with nothing before, between or after them; where
each page lies is known to the index alone. Nothing is ever synced to the disk: after a power cut a
torn page fails its tag and is a miss. A writer holds an exclusive lock on its file, so that the
segment of a killed process is known by its lock being free.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace_cache.tiers.ssd.file_lock import try_lock

#: Segments kept open for reading: 64 of 64 MiB are 4 GiB of warm data; a miss costs one open().
MOST_OPEN = 64

#: Opening a pipe that somebody put in a file's place would wait for ever.
_NEVER_WAIT = os.O_NONBLOCK

_NAME = re.compile(r"seg-([0-9a-f]{16})\.sealed")


class SegmentFiles:
    """The files of the folder `pages`, by segment number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, segment: int) -> Path:
        """Where the segment's file is."""
        return self._folder / f"seg-{segment:016x}.sealed"

    def create(self, segment: int) -> int:
        """Make the file, locked for this writer; its descriptor.

        What lies there already is a leftover: numbers never repeat, except where a power cut took
        back the transaction that counted one.
        """
        self.remove(segment)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self.path(segment), flags, 0o600)
        if not try_lock(descriptor, exclusive=True):
            os.close(descriptor)
            raise OSError(f"{self.path(segment)} was made just now and is locked already")
        return descriptor

    def claim(self, segment: int) -> int | None:
        """Become the writer of a file that has none; None where it has one. Raises OSError."""
        descriptor = os.open(self.path(segment), os.O_RDWR | os.O_CLOEXEC)
        if try_lock(descriptor, exclusive=True):
            return descriptor
        os.close(descriptor)
        return None

    def open(self, segment: int) -> int:
        """Open the file for reading. Raises OSError."""
        return os.open(self.path(segment), os.O_RDONLY | os.O_CLOEXEC | _NEVER_WAIT)

    def remove(self, segment: int) -> None:
        """Unlink the file, where there is one, and give its bytes back to the disk at once.

        A process that has it open would else keep them there, unseen, for as long as it reads
        nothing: up to `MOST_OPEN` segments each. Who is reading just now finds the file's end, or
        bytes that its tag refuses: a miss.
        """
        path = self.path(segment)
        try:
            # Not where a link leads: that is not ours.
            flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | _NEVER_WAIT
            descriptor = os.open(path, flags)
        except OSError:  # not there, most likely; else its bytes leave with its last reader
            with suppress(IsADirectoryError):  # not ours
                path.unlink(missing_ok=True)
            return
        try:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                os.truncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def listed(self) -> set[int]:
        """The segments that have a file."""
        with os.scandir(self._folder) as entries:
            names = [_NAME.fullmatch(entry.name) for entry in entries if not entry.is_dir()]
        return {int(name[1], 16) for name in names if name}


class SegmentWriter:
    """One segment that this process appends to. Its owner sees to it that one thread at a time
    does."""

    def __init__(
        self, segment: int, descriptor: int, tail: int, size: int, pages_left: int
    ) -> None:
        self.segment = segment
        self.descriptor = descriptor
        self._tail = tail
        self._size = size
        self._pages_left = pages_left

    def append(self, sealed: memoryview) -> int | None:
        """Write a sealed page; its offset, or None where the segment is full. Raises OSError."""
        if self._tail + len(sealed) > self._size or not self._pages_left:
            return None
        offset, written = self._tail, 0
        while written < len(sealed):
            written += os.pwrite(self.descriptor, sealed[written:], offset + written)
        self._tail += written
        self._pages_left -= 1
        return offset

    def is_linked(self) -> bool:
        """Whether the file still has its name, by which readers find it."""
        return os.fstat(self.descriptor).st_nlink > 0

    def close(self) -> None:
        """Close the file, which gives up the lock."""
        os.close(self.descriptor)


class _OpenFile:
    __slots__ = ("descriptor", "dropped", "readers")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.readers = 0
        self.dropped = False


class SegmentReader:
    """Reads from segments, with a few of the files kept open. Safe to use from many threads."""

    def __init__(self, files: SegmentFiles) -> None:
        self._files = files
        self._open: OrderedDict[int, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, segment: int, offset: int, target: memoryview) -> bool:
        """Fill `target` from the segment; False where the file ends before. Raises OSError."""
        with self._lent(segment) as descriptor:
            done = 0
            while done < len(target):
                count = os.preadv(descriptor, [target[done:]], offset + done)
                if count == 0:
                    return False
                done += count
        return True

    def has_left(self, segment: int) -> bool:
        """Whether the segment was evicted, or deleted by a stranger."""
        return not self._files.path(segment).exists()

    def drop_unlinked(self) -> None:
        """Close the files of segments that left: nothing is in them any more."""
        with self._lock:
            for segment, file in list(self._open.items()):
                if os.fstat(file.descriptor).st_nlink == 0:
                    self._drop(segment)

    def close(self) -> None:
        """Close all files, each as soon as nobody reads from it."""
        with self._lock:
            for segment in list(self._open):
                self._drop(segment)

    def abandon_in_child(self) -> None:
        """Close what was inherited through a fork; the parent's threads read on in the parent."""
        self._lock = threading.Lock()
        for file in self._open.values():
            os.close(file.descriptor)
        self._open.clear()

    @contextmanager
    def _lent(self, segment: int) -> Generator[int]:
        with self._lock:
            file = self._open.get(segment)
            if file is None:
                file = self._open[segment] = _OpenFile(self._files.open(segment))
                if len(self._open) > MOST_OPEN:
                    self._drop(next(iter(self._open)))
            else:
                self._open.move_to_end(segment)
            file.readers += 1
        try:
            yield file.descriptor
        finally:
            with self._lock:
                file.readers -= 1
                if file.dropped and not file.readers:
                    os.close(file.descriptor)

    def _drop(self, segment: int) -> None:
        # A descriptor closed under a reader could name another file by the time it reads.
        file = self._open.pop(segment, None)
        if file is None:
            return
        file.dropped = True
        if not file.readers:
            os.close(file.descriptor)
