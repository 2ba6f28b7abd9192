"""Backing memory: what bytes lie in before they are read by mapping.

The first write to a page of mapped memory is a fault of its own: measured with two threads filling
at once, 0.97 s per GiB. Written through the descriptor the kernel takes many pages in one call and
needs not zero them first: 0.42 s (cache/decisions/0007).
"""

from __future__ import annotations

import mmap
import os
import sys

#: Before Python 3.13 a mapping keeps a descriptor of its own beside ours.
DESCRIPTORS_EACH = 1 if sys.version_info >= (3, 13) else 2


class Backing:
    """A zeroed shared mapping of `size` bytes that no file system knows of and that dies with its
    last user. On Linux a memfd, so that it is a file that can be handed over; elsewhere anonymous.

    The memory is used page by page as it is written, not at once.
    """

    __slots__ = ("_descriptor", "mapping")

    def __init__(self, size: int) -> None:
        """Raises OSError where the process has no descriptor or mapping left."""
        self._descriptor = -1
        if sys.platform != "linux":
            self.mapping = mmap.mmap(-1, size)
            return
        self._descriptor = os.memfd_create("headrace-extent", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, size)
        self.mapping = _mapped(self._descriptor, size)
        # A crash of the process must not write what may be restricted into a core file.
        self.mapping.madvise(mmap.MADV_DONTDUMP)

    def write(self, place: slice, data: memoryview) -> None:
        """Put `data` into `place` of the mapping: cheaper than by the mapping where that memory was
        not used before. Raises ValueError once closed."""
        with memoryview(self.mapping) as whole:  # what has a view is not closed
            if self._descriptor < 0:
                whole[place] = data
                return
            done = 0
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], place.start + done)

    def read_into(self, place: slice, target: memoryview) -> None:
        """Copy `place` of the mapping into `target`, while other threads run. Raises ValueError
        once closed."""
        with memoryview(self.mapping) as whole:
            if self._descriptor < 0:
                target[:] = whole[place]
                return
            done = 0
            while done < len(target):
                done += os.preadv(self._descriptor, [target[done:]], place.start + done)

    def close(self) -> None:
        """Give the memory back. Raises BufferError, and does nothing, where somebody has a view."""
        self.mapping.close()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # Made in part, or closed in part: an interrupt can come between any two steps.
        self._close_descriptor()


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, size, trackfd=False)
    return mmap.mmap(descriptor, size)


def most_extents() -> int:
    """How many extents a process may hold: each costs `DESCRIPTORS_EACH` descriptors on Linux.

    Three quarters of what the process may open, so that sockets and the user's own files find
    room; never above 8,192 (the kernel's usual bound is 65,530 mappings).
    """
    if sys.platform != "linux":
        return 8192
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 8192
    return max(16, min(8192, soft * 3 // 4 // DESCRIPTORS_EACH))
