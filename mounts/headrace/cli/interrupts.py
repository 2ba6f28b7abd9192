"""Ctrl-C that is not lost.

Python loses an exception that arises in a finalizer or in a callback of its import system, and an
import that is interrupted may fail in other words; much of a short command is importing. So the
request is remembered, and whatever became of its exception the command ends as an interrupted one.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def remembered_interrupts() -> Generator[Callable[[], bool]]:
    """While inside, the result says whether Ctrl-C was pressed. Where somebody else handles it, or
    it is ignored (`nohup`, a job in the background), nothing changes."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        # Nor of what was cut off while it was made: its destructor finds nothing to end.
        if not asked:
            told(lost)

    told = sys.unraisablehook
    here = threading.current_thread() is threading.main_thread()
    ours = here and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
        sys.unraisablehook = unraisable
    try:
        yield lambda: asked
    finally:
        if ours:
            sys.unraisablehook = told
            signal.signal(signal.SIGINT, signal.default_int_handler)
