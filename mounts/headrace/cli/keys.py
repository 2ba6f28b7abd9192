"""Single keys of a terminal, and the signals that end a program: waited for together."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

#: What asks a program to end; Ctrl-C is the first of them.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Keys:
    """What was pressed, and whether the end was asked for."""

    def __init__(self, terminal: int | None, woken: int) -> None:
        self._terminal = terminal
        self._woken = woken
        #: The signal that asked for the end; None as long as none did.
        self.ended: int | None = None

    def wait(self, seconds: float) -> str:
        """The next key, or nothing: after so long, or when the end was asked for."""
        until = time.monotonic() + seconds
        while self.ended is None:
            watched = [self._woken] + ([] if self._terminal is None else [self._terminal])
            left = until - time.monotonic()
            ready, _, _ = select.select(watched, [], [], max(0.0, left))
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self._terminal in ready:
                pressed = os.read(self._terminal, 1)
                if pressed:
                    return pressed.decode("ascii", "replace")
                self._terminal = None  # it is gone
            elif not ready:
                break
        return ""


@contextmanager
def keys(*, wanted: bool) -> Generator[Keys]:
    """Keys of standard input as they are pressed, where they are `wanted` and it is a terminal: not
    echoed, and no line waited for. Ctrl-Z does nothing then, for it would leave the screen as it
    is. In any case signals that ask for the end are only noted. All is as it was afterwards."""
    read, write = os.pipe()
    # What a signal writes into it ends a wait, also where the signal came just before the wait, or
    # to another thread: a handler alone runs only when this thread comes back from its wait.
    os.set_blocking(write, False)
    woken_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    terminal = 0 if wanted and os.isatty(0) else None
    pressed = Keys(terminal, read)

    def end(number: int, frame: FrameType | None) -> None:
        pressed.ended = number

    handlers = {number: signal.signal(number, end) for number in ENDS}
    try:
        with _as_pressed(terminal):
            yield pressed
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        os.close(read)
        os.close(write)


@contextmanager
def _as_pressed(terminal: int | None) -> Generator[None]:
    if terminal is None:
        yield
        return
    import termios  # no other system than POSIX has it

    before = termios.tcgetattr(terminal)
    changed = termios.tcgetattr(terminal)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    controls = list(changed[6])
    controls[termios.VMIN], controls[termios.VTIME] = 1, 0
    controls[termios.VSUSP] = b"\0"
    changed[6] = controls
    termios.tcsetattr(terminal, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
