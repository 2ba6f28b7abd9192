"""A seekable binary file over an open object: thin, so that a read goes straight to the cache."""

from __future__ import annotations

import io
import operator
import os
from typing import TYPE_CHECKING, NoReturn

from headrace_cache.service import OpenObject

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The first guess of a line's length; it doubles until the line's end is found.
LINE_BYTES = 256


class HeadraceFile(io.BufferedIOBase):
    """An object opened for reading, its version pinned: every read gives bytes of that version.

    One position, as files have: share it between threads only with a lock, or use `cat_file`.
    """

    mode = "rb"

    def __init__(self, opened: OpenObject) -> None:
        self._opened = opened
        self._position = 0
        self.size = opened.version.size

    @property
    def path(self) -> str:
        """The path it was opened by."""
        return self._opened.path.text

    @property
    def name(self) -> str:
        """The path, as any file has its name."""
        return self._opened.path.text

    @property
    def restricted(self) -> bool:
        """Whether policy keeps its bytes from every disk."""
        return self._opened.restricted

    @property
    def version(self) -> str:
        """The tag of the version that was pinned at open."""
        return self._opened.version.tag

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        if self.closed:
            self._refuse()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to `offset` from the start, the position or the end; the new position."""
        if self.closed:
            self._refuse()
        offset = operator.index(offset)
        if whence == os.SEEK_SET:
            position = offset
        elif whence == os.SEEK_CUR:
            position = self._position + offset
        elif whence == os.SEEK_END:
            position = self.size + offset
        else:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if position < 0:
            raise ValueError(f"a file has no position {position}")
        self._position = position
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, all that is left where it is None or negative."""
        start = self._position
        stop = self.size if size is None or size < 0 else min(start + size, self.size)
        if stop <= start and not self.closed:
            return b""
        data = self._opened.read_at(start, stop)
        self._position = start + len(data)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """As `read`: there is no buffer in between."""
        return self.read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` with the next bytes; how many there were."""
        with memoryview(buffer).cast("B") as target:
            count = self._opened.read_into(self._position, target)
        self._position += count
        return count

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """As `readinto`."""
        return self.readinto(buffer)

    def read_buffer(self, size: int = -1) -> memoryview | bytes:
        """As `read`, without a copy where the bytes lie in one piece of memory: pyarrow asks this.

        What is returned holds cache memory while it lives.
        """
        start, end = self._position, self.size
        if start > end:
            start = end
        stop = start + size
        if size < 0 or stop > end:
            stop = end
        self._position = stop
        return self._opened.view(start, stop)

    def readline(self, size: int | None = -1, /) -> bytes:
        """The next line with its end; at most `size` bytes of it."""
        start, guess = self._position, LINE_BYTES
        most = self.size - start if size is None or size < 0 else min(size, self.size - start)
        while True:
            piece = self._opened.read_at(start, start + min(guess, most))
            end = piece.find(b"\n") + 1
            if end or guess >= most:
                line = piece[:end] if end else piece
                self._position = start + len(line)
                return line
            guess *= 2

    def _refuse(self) -> NoReturn:
        raise ValueError(f"the file is closed: {self.path}")

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open file cannot be sent to another process: send its path")

    def close(self) -> None:
        """Let go of the object."""
        if not self.closed:
            self._opened.close()
        super().close()
