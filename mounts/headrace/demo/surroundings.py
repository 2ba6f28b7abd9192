"""What the demo shuts out of this process while it runs: other people's settings, and signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

#: A profile, proxy or endpoint of the user's own must not turn the demo towards a real bucket.
_SHUT_OUT_PREFIXES = ("AWS_", "HEADRACE_", "MOTO_")
_SHUT_OUT_ENDINGS = ("_PROXY",)

#: What ends a demo early, and must still clean up.
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


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


@contextmanager
def ending_cleanly() -> Generator[None]:
    """While inside, a request to end unwinds as an exception, so that everything is cleaned up."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Generator[None]:
    """While inside, no signal interrupts: a second Ctrl-C must not cut the cleaning short."""
    numbers = (signal.SIGINT, *_ENDING_SIGNALS)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
