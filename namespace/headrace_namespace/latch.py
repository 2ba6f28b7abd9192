"""Waiting that an interrupt cannot spoil for others.

Ctrl-C raises in the caller's thread between any two steps of Python code. `threading.Condition`,
`Event` and `Semaphore` are Python code around a lock, and an interrupt in them can leave that lock
taken for ever: then whoever should wake the waiters hangs too (seen). A bare lock is taken and
given back in one step that nothing interrupts, so what callers' threads wait on is made of those.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock


class Latch:
    """Opens once; then everyone who waits goes on, and nobody waits any more."""

    __slots__ = ("_lock", "_opened", "_waiters")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._opened = False
        self._waiters: list[LockType] = []

    def open(self) -> None:
        """Let everyone go on."""
        with self._lock:
            self._opened = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()

    def wait(self, seconds: float) -> bool:
        """Return when it opens (True), or after `seconds` (False)."""
        if self._opened:
            return True
        waiter = allocate_lock()
        waiter.acquire()
        with self._lock:
            if self._opened:
                return True
            self._waiters.append(waiter)
        try:
            return waiter.acquire(timeout=seconds)
        finally:
            # Who gave up waiting is not woken: else who asks once a second for weeks would leave a
            # lock behind each time.
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiters)
