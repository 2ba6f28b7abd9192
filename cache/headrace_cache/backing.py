"""Backing memory: what bytes lie in before they are read by mapping."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from dataclasses import dataclass

if sys.platform == "linux":
    import fcntl

#: The kernel's F_ADD_SEALS and the seals (include/uapi/linux/fcntl.h), which Python names in part:
#: no smaller, no larger, no other seal, and nothing written but by the mapping that there is.
_ADD_SEALS = 1024 + 9
_SEALS = 0x0002 | 0x0004 | 0x0001 | 0x0010


@dataclass(frozen=True, slots=True)
class Backing:
    """Zeroed memory, mapped; `descriptor` names it where it can be handed to others, else -1."""

    mapping: mmap.mmap
    descriptor: int = -1

    def close(self) -> None:
        """Give the memory back. Raises BufferError while somebody holds a view of it."""
        self.mapping.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)


def create_backing(size: int, *, shared: bool = False) -> Backing:
    """A zeroed mapping of `size` bytes that no file system knows of and that dies with its last
    user. On Linux a memfd; elsewhere anonymous.

    The memory is used page by page as it is written, not at once. `shared`: it may be handed to
    other processes, and is written by this mapping alone: whoever gets its descriptor can read it
    and do nothing else with it, whatever he is allowed otherwise. Raises OSError.
    """
    if sys.platform != "linux":
        return Backing(mmap.mmap(-1, size))
    descriptor = os.memfd_create("headrace-extent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        mapping = mmap.mmap(descriptor, size)  # keeps a descriptor of its own
        # A crash of the process must not write what may be restricted into a core file.
        mapping.madvise(mmap.MADV_DONTDUMP)
        if not shared:
            return Backing(mapping)
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
        os.fchmod(descriptor, 0o444)  # the seals do it; but why let others open it for writing
        backing, descriptor = Backing(mapping, descriptor), -1
        return backing
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def open_for_reading(descriptor: int) -> int:
    """Another descriptor of the same memory, that can only read; the caller closes it. Raises
    OSError."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def map_for_reading(descriptor: int) -> mmap.mmap:
    """Memory that another process has handed over, mapped for reading; the descriptor can be closed
    then. Raises OSError, as `require_sealed` too."""
    require_sealed(descriptor)
    mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    mapping.madvise(mmap.MADV_DONTDUMP)
    return mapping


def require_sealed(descriptor: int) -> None:
    """Raises OSError where it is no memory that can be relied on: one that somebody could shrink
    would end this process by a signal when it is read."""
    seals = fcntl.fcntl(descriptor, _ADD_SEALS + 1) if sys.platform == "linux" else 0
    if seals & _SEALS != _SEALS:
        raise OSError(errno.EPERM, "the memory that was handed over could still be changed")


def most_descriptors() -> int:
    """How many files this process may have open."""
    if sys.platform != "linux":
        return 1024
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def raise_descriptors() -> None:
    """Let this process have as many files open as it may at all: a node has two for each extent and
    one for each connection."""
    if sys.platform != "linux":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_extents(*, shared: bool = False) -> int:
    """How many extents a process may hold: each costs one descriptor on Linux, two where they are
    shared.

    Three quarters of what the process may open, so that sockets and the user's own files find
    room; never above 8,192 (the kernel's usual bound is 65,530 mappings).
    """
    if sys.platform != "linux":
        return 8192
    return max(16, min(8192, most_descriptors() * 3 // (8 if shared else 4)))
