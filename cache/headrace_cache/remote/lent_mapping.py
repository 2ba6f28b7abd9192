"""Memory of a node, mapped here, that a copy of our own can replace under those who read it.

Python cannot unmap what somebody has a view of, and the node cannot have its memory back before.
The kernel can: `mremap(2)` puts a private copy in the place of the node's memory in one step. Who
reads a byte there at that moment gets it from the one or the other, and it is the same byte.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import ClassVar

from headrace_cache.backing import require_sealed
from headrace_cache.extents.page import PAGE_BYTES

#: Of mremap(2), which Python does not name.
_MAYMOVE, _TO_ADDRESS = 1, 2
#: Of mmap(2): in the place of what is mapped there.
_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value


class LentMapping:
    """One extent of the node's. `mapping` can only be read, and keeps no descriptor."""

    __slots__ = ("_address", "_presence", "_size", "called_at", "mapping", "replaced")

    def __init__(self, descriptor: int, presence: int) -> None:
        """The descriptor can be closed then. From `presence` on lies a byte for each page that is
        there; -1 where there are none. Raises OSError, also for memory that could be cut short."""
        require_sealed(descriptor)
        self._size = os.fstat(descriptor).st_size
        self._presence = presence
        # Made of nothing, and the node's memory put in its place: Python would keep a descriptor
        # of it, and with that its memory, for as long as there is a view.
        nothing = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.mapping = mmap.mmap(-1, self._size, flags=nothing, prot=mmap.PROT_READ)
        try:
            self._address = _address_of(self.mapping)
            shared = mmap.MAP_SHARED | _FIXED
            _mapped(self._address, self._size, mmap.PROT_READ, shared, descriptor)
            self.mapping.madvise(mmap.MADV_DONTDUMP)
        except BaseException:
            self.mapping.close()
            raise
        #: When it was called back and could not be unmapped, first; None where that never was.
        self.called_at: float | None = None
        #: Whether it is, or is about to be, a copy, in which no page comes to be there any more.
        self.replaced = False

    def pages_there(self, first: int, last: int) -> bool:
        """Whether the node has noted that these pages, `last` too, have come; where it notes
        nothing they have not. Raises ValueError where it was unmapped."""
        if self._presence < 0:
            return False
        noted = self.mapping[self._presence + first : self._presence + last + 1]
        # Looked at after the notes: what was seen in them before is in the copy.
        return b"\0" not in noted and not self.replaced

    def unmap(self) -> bool:
        """Let go of it; False while somebody has a view of it."""
        try:
            self.mapping.close()
        except BufferError:
            return False
        return True

    @property
    def bytes_there(self) -> int:
        """How many bytes a copy would hold now. Raises ValueError where it was unmapped."""
        return sum(length for _, length in self._runs())

    def replace(self) -> None:
        """Put a copy of what is there in its place. Raises OSError where no memory is to be had;
        then all is as it was. Raises ValueError where it was unmapped."""
        # A view of our own: else it could be unmapped while it is read here, when the last of the
        # others goes, and the copy be put over what came to lie in its place.
        with memoryview(self.mapping):
            self._replace()

    def _replace(self) -> None:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        copy = _mapped(None, self._size, mmap.PROT_READ | mmap.PROT_WRITE, private, -1)
        self.replaced = True
        try:
            _succeeded(_C.madvise(copy, self._size, mmap.MADV_DONTDUMP))
            for start, length in self._runs():
                ctypes.memmove(copy + start, self._address + start, length)
            _succeeded(_C.mprotect(copy, self._size, mmap.PROT_READ))
            size, how = self._size, _MAYMOVE | _TO_ADDRESS
            _placed(_C.mremap(copy, size, size, how, self._address))
        except BaseException:
            _C.munmap(copy, self._size)
            self.replaced = False
            raise

    def _runs(self) -> list[tuple[int, int]]:
        """Where bytes are, and how many."""
        if self._presence < 0:
            return [(0, self._size)]
        pages = -(-self._presence // PAGE_BYTES)
        noted = self.mapping[self._presence : self._presence + pages]
        runs = [
            (index * PAGE_BYTES, min(PAGE_BYTES, self._presence - index * PAGE_BYTES))
            for index, there in enumerate(noted)
            if there
        ]
        return [*runs, (self._presence, self._size - self._presence)]


class _Kernel(ctypes.CDLL):
    """The calls, with their types."""

    def __init__(self) -> None:
        super().__init__(None, use_errno=True)
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self.mmap.restype = self.mremap.restype = pointer
        self.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_long]
        self.mremap.argtypes = [pointer, size, size, number, pointer]
        self.munmap.argtypes = [pointer, size]
        self.mprotect.argtypes = self.madvise.argtypes = [pointer, size, number]


_C = _Kernel()


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer, a part of its stable ABI (docs.python.org/3/c-api/buffer.html)."""

    _fields_: ClassVar = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def _address_of(mapping: mmap.mmap) -> int:
    """Where it begins; `ctypes` itself tells that of writable memory alone."""
    buffer = _PyBuffer()
    api = ctypes.pythonapi
    api.PyObject_GetBuffer(ctypes.py_object(mapping), ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf)
    finally:
        api.PyBuffer_Release(ctypes.byref(buffer))


def _mapped(address: int | None, size: int, protection: int, flags: int, descriptor: int) -> int:
    return _placed(_C.mmap(address, size, protection, flags, descriptor, 0))


def _placed(address: int | None) -> int:
    if address is None or address == _FAILED:
        raise _last_error()
    return address


def _succeeded(result: int) -> None:
    if result != 0:
        raise _last_error()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
