"""Ctrl-C that is not lost.

Python loses an exception that arises in a finalizer or in a callback of its import system, and an
import that is interrupted may fail in other words; much of a short command is importing. So the
request is remembered, and whatever became of its exception the command ends as an interrupted one.
"""

from __future__ import annotations

import gc
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


def let_go_quietly(error: BaseException) -> None:
    """Throw away what was cut off when this was raised, while nobody hears what its destructors
    say: an event loop, say, that was half made finds nothing to end."""
    told, sys.unraisablehook = sys.unraisablehook, _hear_nothing
    try:
        seen: set[int] = set()
        todo: list[BaseException | None] = [error]
        while todo:
            each = todo.pop()
            if each is not None and id(each) not in seen:
                seen.add(id(each))
                each.__traceback__ = None
                todo += (each.__cause__, each.__context__)
        gc.collect()
    finally:
        sys.unraisablehook = told


def _hear_nothing(lost: sys.UnraisableHookArgs) -> None:
    pass
