"""Whether a file is being closed only because an error ends the block that wrote it.

`fsspec.open(...)` and pandas close what they opened by `close` alone, also where their `with` is
left by an error; closing then would make an object of half the bytes. Their `__exit__` knows of the
error, so that is where this looks: at no other caller, for one may well close a file on purpose
while it handles an error.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import cast

#: The modules whose `__exit__` closes without saying why.
CLOSERS = frozenset({"fsspec.core", "pandas.io.common"})
#: How many callers up to look: pandas's handles over a text wrapper over a compressor are five.
MOST_FRAMES = 12


def left_by_error() -> bool:
    """Whether one of `CLOSERS` closes the caller's file because of an error."""
    # Frames are the one way to know; every Python that we support has them.
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(MOST_FRAMES):
        if frame is None:
            return False
        code = frame.f_code
        if code.co_name == "__exit__" and frame.f_globals.get("__name__") in CLOSERS:
            # (self, *args) or (self, kind, error, traceback): an error is among them, or none is.
            given = [
                frame.f_locals.get(name) for name in code.co_varnames[1 : code.co_argcount + 1]
            ]
            return any(_tells_of_error(one) for one in given)
        frame = frame.f_back
    return False


def _tells_of_error(given: object) -> bool:
    if isinstance(given, tuple):
        return any(isinstance(one, BaseException) for one in cast("tuple[object, ...]", given))
    return isinstance(given, BaseException)
