"""Backing memory: what bytes lie in before they are read by mapping."""

from __future__ import annotations

import mmap
import os
import sys


def create_backing(size: int) -> mmap.mmap:
    """A zeroed shared mapping of `size` bytes that no file system knows of and that dies with its
    last user. On Linux a memfd, so that it is a file that can be handed over; elsewhere anonymous.

    The memory is used page by page as it is written, not at once.
    """
    if sys.platform != "linux":
        return mmap.mmap(-1, size)
    mapping = _mapped_memfd(size)
    # A crash of the process must not write what may be restricted into a core file.
    mapping.madvise(mmap.MADV_DONTDUMP)
    return mapping


def _mapped_memfd(size: int) -> mmap.mmap:
    descriptor = os.memfd_create("headrace-extent", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)  # keeps a descriptor of its own
    finally:
        os.close(descriptor)


def most_extents() -> int:
    """How many extents a process may hold: each costs one descriptor on Linux.

    Three quarters of what the process may open, so that sockets and the user's own files find
    room; never above 8,192 (the kernel's usual bound is 65,530 mappings).
    """
    if sys.platform != "linux":
        return 8192
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 8192 if soft == resource.RLIM_INFINITY else max(16, min(8192, soft * 3 // 4))
