"""What the demo shuts out of this process while it runs: other people's settings, and signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

#: A profile, proxy or endpoint of the user's own must not turn the demo towards a real bucket.
_SHUT_OUT_PREFIXES = ("AWS_", "HEADRACE_", "MOTO_")
_SHUT_OUT_ENDINGS = ("_PROXY",)

#: What ends a demo early, and must still clean up.
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def only_the_demo() -> Generator[None]:
    """While inside, no variable of the user's leads elsewhere; all are put back afterwards."""
    before = dict(os.environ)
    for name in before:
        upper = name.upper()
        if upper.startswith(_SHUT_OUT_PREFIXES) or upper.endswith(_SHUT_OUT_ENDINGS):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Ending:
    """Whether the demo was asked to end. The exception that says so can be lost on its way: one
    that arises in a destructor, or while a library is imported, is swallowed or becomes another."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._tell = sys.unraisablehook

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals: notes the first, and unwinds what runs now."""
        self._asked = self._asked or number
        self.heed()

    def unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """Told of what a destructor raised. A library's object that was cut off while it was made
        (an event loop, seen) cannot end in order, and nobody need hear of it then."""
        if self._asked is None:
            self._tell(lost)

    def heed(self) -> None:
        """Unwind if the demo was asked to end; to be called between its steps."""
        if self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self._asked is not None:
            raise SystemExit(128 + self._asked)


@contextmanager
def ending_cleanly() -> Generator[Ending]:
    """While inside, a request to end unwinds as an exception, so that everything is cleaned up."""
    ending = Ending()
    numbers = [n for n in _ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    told = sys.unraisablehook
    sys.unraisablehook = ending.unraisable
    before = {number: signal.signal(number, ending.ask) for number in numbers}
    try:
        yield ending
    except Exception:
        ending.heed()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = told


@contextmanager
def undisturbed() -> Generator[None]:
    """While inside, no signal interrupts: a second Ctrl-C must not cut the cleaning short."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
