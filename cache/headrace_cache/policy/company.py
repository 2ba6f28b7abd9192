"""Whether other processes share the cache: each holds a lock on one file for as long as it lives.

The system gives a lock back when its process dies, so nothing is ever left behind. A forked child
keeps its parent's lock alive until it ends, which errs on the safe side.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class Company:
    """This process's lock. Where none can be had, it believes that there are others."""

    def __init__(self, file: Path) -> None:
        self._descriptor = -1
        if sys.platform == "win32":
            return
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)  # waits for who asks just now
        except OSError:
            self.close()

    def is_alone(self) -> bool:
        """Whether no other service, in this process or another, has the lock at this moment."""
        if self._descriptor < 0 or sys.platform == "win32":
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        try:
            # Who starts in between waits here or there, and reads what holds now afterwards.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        except OSError:
            self.close()
        return alone

    def close(self) -> None:
        """Give the lock back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
