"""Who was refused, for the log: one line a while, however many come."""

from __future__ import annotations

import logging
import threading
import time

from headrace_cache.wire.channel import Peer

_log = logging.getLogger(__name__)

#: Between two lines of the log; those that came meanwhile are counted in the next.
TELL_SECONDS = 1.0


class Refusals:
    """Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tell_from = 0.0
        self._untold = 0

    def note(self, why: str, peer: Peer) -> None:
        """A client was refused; `why` is a word of ours, never one of his."""
        now = time.monotonic()
        with self._lock:
            if now < self._tell_from:
                self._untold += 1
                return
            self._tell_from = now + TELL_SECONDS
            untold, self._untold = self._untold, 0
        _log.info(
            "refused a client",
            extra={"why": why, "pid": peer.process, "user": peer.user, "others": untold},
        )
