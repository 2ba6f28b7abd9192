"""A binary file being written: `close` commits it, and nothing else does.

An error inside its `with`, `discard`, and being forgotten all give it up: what was there stays.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from headrace_cache.service import OpenWriter
from headrace_mounts.leaving import left_by_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Endable(Protocol):
    def close(self) -> None: ...
    def discard(self) -> None: ...


class _GivenUpByErrors:
    """The end of a `with` block closes it; an error in the block gives it up."""

    def __exit__(
        self: _Endable,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class HeadraceWritingFile(_GivenUpByErrors, io.BufferedIOBase):
    """An object opened for writing. For one thread.

    With `autocommit` False, `close` sends all bytes and `commit` makes the object (transactions).
    """

    def __init__(self, writer: OpenWriter, mode: str, *, autocommit: bool = True) -> None:
        self._writer = writer
        self._autocommit = autocommit
        self._version: str | None = None
        self._discarded = False
        # Opened by what handles an error (a report of it): then that error does not give it up.
        self._after_error = left_by_error()
        self.mode = mode
        self.path = writer.path.text
        self.name = self.path

    @property
    def version(self) -> str:
        """The tag of the version that was written. Raises ValueError before the commit."""
        if self._version is None:
            raise ValueError(f"{self.path} has no version before it is closed")
        return self._version

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes: always the end."""
        self._check_open()
        return self._writer.written

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Take all bytes of `buffer`, any kind of buffer; how many there were."""
        self._check_open()
        with memoryview(buffer) as data:
            self._writer.write(data)
            return data.nbytes

    def flush(self) -> None:
        """Nothing: what is written is seen by nobody before the file is closed."""
        self._check_open()

    def close(self) -> None:
        """Commit: the object is there, whole, when this returns; or raises, and nothing is."""
        if self.closed:
            return
        if not self._after_error and left_by_error():
            self.discard()
            return
        try:
            if self._autocommit:
                self._version = self._writer.commit().tag
            else:
                self._writer.finish()
        except BaseException:
            self.discard()
            raise
        super().close()

    def commit(self) -> None:
        """Make the object of a file that was closed without `autocommit`; nothing, where it was
        given up. Raises ValueError where it is still open: what wraps it may hold bytes back."""
        if self._discarded:
            return
        if self._autocommit and not self.closed:
            self.close()
        elif not self.closed:
            raise ValueError(f"{self.path} is still open: close it before its transaction ends")
        elif self._version is None:
            self._version = self._writer.commit().tag

    def discard(self) -> None:
        """Give it up; what was there stays."""
        self._discarded = True
        try:
            self._writer.abort()
        finally:
            if not self.closed:
                super().close()

    def __del__(self) -> None:
        # Not the base's, which would close, and so commit what nobody finished. The writer gives
        # itself up where it is forgotten.
        if hasattr(self, "_writer"):
            self.forget()

    def forget(self) -> None:
        """Give it up without waiting for anything: for finalizers."""
        if not self.closed:
            super().close()
            del self._writer

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open file cannot be sent to another process: send its path")

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"the file is closed: {self.path}")


class CompressedWritingFile(_GivenUpByErrors, io.BufferedIOBase):
    """Compresses on the way to a file being written, and ends as that does."""

    def __init__(self, file: HeadraceWritingFile, codec: Callable[..., Any], mode: str) -> None:
        self._file = file
        self._compressor = codec(file, mode=mode)
        self.mode = file.mode
        self.path = file.path
        self.name = file.name

    @property
    def version(self) -> str:
        """The tag of the version that was written."""
        return self._file.version

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Take all bytes of `buffer`; how many there were."""
        with memoryview(buffer) as data:
            self._compressor.write(data)
            return data.nbytes

    def close(self) -> None:
        """Commit, as `HeadraceWritingFile.close`."""
        if self.closed:
            return
        try:
            self._compressor.close()
            self._file.close()
        except BaseException:
            self.discard()
            raise
        super().close()

    def discard(self) -> None:
        """Give it up; what was there stays."""
        self._file.discard()
        if not self.closed:
            super().close()

    def __del__(self) -> None:
        # As `HeadraceWritingFile`: the compressor's end must not make it look complete.
        if hasattr(self, "_file") and not self.closed:
            self._file.forget()
            super().close()


#: What a mode opens for writing.
WritingFile = HeadraceWritingFile | CompressedWritingFile


class HeadraceTextFile(_GivenUpByErrors, io.TextIOWrapper):
    """Text over a file being written, given up as that is: by an error, or when forgotten."""

    def __init__(
        self,
        file: WritingFile,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> None:
        super().__init__(file, encoding or "utf-8", errors, newline)
        self._file = file

    @property
    def version(self) -> str:
        """The tag of the version that was written."""
        return self._file.version

    def discard(self) -> None:
        """Give it up; what was there stays."""
        self._file.discard()

    def __del__(self) -> None:
        # Not the base's, which would close: what it wraps gives itself up where it is forgotten.
        pass
