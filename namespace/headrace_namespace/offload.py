"""Blocking work on a bounded number of threads, so that no reader does another's fetching."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

#: Ranges fetched at once: 16 streams of 8 MiB fill a 25 Gbit/s link at 30 ms; more only wait.
FETCH_THREADS = 16
#: Work that nobody waits for yet (read-ahead) is turned away while this much stands in line.
MOST_WAITING = 64


class Offload:
    """A pool of threads for work that somebody waits for, and for work that may be turned away."""

    def __init__(self, threads: int = FETCH_THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="headrace-fetch")
        self._most_waiting = most_waiting
        self._lock = threading.Lock()
        self._waiting = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` on a thread of the pool; `work` handles its own errors.

        The line is bounded by its callers: each waits for what it submitted before it submits more.
        """
        with self._lock:
            self._waiting += 1
        try:
            self._pool.submit(self._run, work)
        except RuntimeError:
            # The interpreter is shutting down and takes no more threads; the caller still waits.
            self._run(work)

    def has_room(self) -> bool:
        """Whether work that nobody waits for may be submitted now."""
        return self._waiting < self._most_waiting

    def close(self) -> None:
        """Finish what was submitted, and end the threads."""
        self._pool.shutdown(wait=True)

    def _run(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._waiting -= 1
        work()
