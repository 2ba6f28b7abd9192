"""Standard output and standard error: what can be wrong with them, and how it is told."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputFailed(Exception):
    """Standard output cannot be written: a full disk, a file that is only open for reading."""


class OutputUnwanted(Exception):
    """Whoever read standard output has seen enough and closed it: no fault of anybody's."""


class _Output(io.FileIO):
    """Standard output's file, whose errors say that they are its own, and are no OSError:
    click would make its own end of a broken pipe."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of `data`. Raises OutputFailed or OutputUnwanted."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise OutputUnwanted from error
            raise OutputFailed(f"standard output cannot be written: {error.strerror}") from error


def prepare_streams() -> bool:
    """Make both streams fit for any name of the tree; False where standard output is closed."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed: 2>&-
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # stays open to the end
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed: >&-
        return False
    # A name that the terminal's encoding cannot show must not end the listing.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    old = sys.stdout
    # Without a buffer (PYTHONUNBUFFERED) it is the file itself; lines then go out as they come.
    below: object = getattr(old, "buffer", None)
    if isinstance(old, io.TextIOWrapper) and isinstance(below, io.BufferedWriter | io.FileIO):
        old.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(old.fileno(), "wb", closefd=False)),
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=old.line_buffering or old.write_through,
        )
    return True


def complain(sentence: str, error: BaseException | None = None) -> None:
    """One line on standard error, after the trace of `error` where it is given."""
    try:
        if error is not None:
            sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.write(f"headrace: {sentence}\n")
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Let what is still buffered for a stream that failed go nowhere when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
