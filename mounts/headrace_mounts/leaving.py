"""Whether a file is being closed only because an error ends the block that wrote it.

Much of what wraps a file closes it by `close` alone, also where its `with` is left by an error:
`fsspec.open(...)`, pandas, pyarrow's writers, `contextlib.closing`, `io.TextIOWrapper`. Closing
then would make an object of half the bytes. Two places know of the error: the `__exit__` that
closes, and where that is not Python, the frame whose `with` is just being left. Nothing else is
asked: one may well close a file on purpose while one handles an error.
"""

from __future__ import annotations

import dis
import sys
from types import FrameType
from typing import cast

#: How many callers up to look: pandas's handles over a text wrapper over a compressor are five.
MOST_FRAMES = 16
#: The instruction that calls `__exit__` with an error, and nothing else does.
_LEFT_BY_ERROR = dis.opmap.get("WITH_EXCEPT_START")


def left_by_error() -> bool:
    """Whether the nearest `with` that closes the caller's file is left by an error."""
    # Frames are the one way to know; every Python that we support has them.
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(MOST_FRAMES):
        if frame is None:
            return False
        code = frame.f_code
        if code.co_name in ("__exit__", "__aexit__"):
            # (self, *args) or (self, kind, error, traceback): an error is among them, or none is.
            given = [
                frame.f_locals.get(name) for name in code.co_varnames[1 : code.co_argcount + 1]
            ]
            return any(_tells_of_error(one) for one in given)
        if frame.f_lasti >= 0 and code.co_code[frame.f_lasti] == _LEFT_BY_ERROR:
            return True
        frame = frame.f_back
    return False


def _tells_of_error(given: object) -> bool:
    if isinstance(given, tuple):
        return any(_tells_of_error(one) for one in cast("tuple[object, ...]", given))
    if isinstance(given, type):
        return issubclass(given, BaseException)
    return isinstance(given, BaseException)
