"""Locks on open files, which the system gives back when their holder dies."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import fcntl


def try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock the open file without waiting; whether it succeeded.

    The lock belongs to the open file: it ends when the last copy of the descriptor is closed.
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
