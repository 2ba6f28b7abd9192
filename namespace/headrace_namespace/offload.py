"""Blocking work on a bounded number of threads, away from the callers' own.

A caller's thread can be interrupted at any step (Ctrl-C); what it has begun here goes on without
it, so that nobody who waits for the same is spoilt. The threads are bare ones: they need no lock
that an interrupt could leave taken, and they end with the process instead of holding it up.
"""

from __future__ import annotations

import logging
import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from headrace_namespace.errors import StoreTimeout
from headrace_namespace.latch import Latch

_log = logging.getLogger(__name__)

#: Ranges fetched at once from one store: 16 streams of 8 MiB fill a 25 Gbit/s link at 30 ms.
FETCH_THREADS = 16
#: Stats and listings at once from one store; apart from fetches, which may keep theirs long.
LOOK_THREADS = 8
#: Work that nobody waits for yet (read-ahead) is turned away while this much stands in line.
MOST_WAITING = 64
#: Longer than a store's own bounds for all attempts together; only a fault of ours waits this long.
WAIT_SECONDS = 900.0

Answer = TypeVar("Answer")


class Offload:
    """At most `threads` threads, started as they are needed, for one kind of work."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = allocate_lock()
        #: Threads that there are; never lowered, for they end with the pool alone.
        self._alive = 0
        self._free = 0
        self._closed = False
        self._inside = threading.local()

    def submit(self, work: Callable[[], object]) -> None:
        """Do `work` on a thread; it handles its own errors: others are logged and end nothing.

        Raises StoreTimeout once closed.
        """
        with self._lock:
            self._submit(work)

    def offer(self, work: Callable[[], object]) -> bool:
        """Submit work that nobody waits for, unless `MOST_WAITING` stand in line already; whether
        it was taken. Raises StoreTimeout once closed."""
        with self._lock:  # so that two who find the last place do not both take it
            if self._work.qsize() >= MOST_WAITING:
                return False
            self._submit(work)
            return True

    def later(self, work: Callable[[], object]) -> None:
        """Do `work` when a thread that was started before has time: for finalizers, which may run
        between any two steps of any thread, and so must take no lock."""
        self._work.put(work)

    def run(self, work: Callable[[], Answer]) -> Answer:
        """Do `work` on a thread, and give its answer or raise its error.

        At once where this is already one of the threads. Raises StoreTimeout.
        """
        if getattr(self._inside, "yes", False):
            return work()
        done = Latch()
        answers: list[Answer] = []
        errors: list[BaseException] = []

        def task() -> None:
            try:
                answers.append(work())
            except BaseException as error:  # the caller gets it, whatever it is
                errors.append(error)
            finally:
                done.open()

        self.submit(task)
        if not done.wait(WAIT_SECONDS):
            raise StoreTimeout(f"a request did not end in {WAIT_SECONDS:.0f} s")
        if errors:
            raise errors[0]
        return answers[0]

    @property
    def waiting(self) -> int:
        """How much stands in line now."""
        return self._work.qsize()

    def has_room(self) -> bool:
        """Whether work that nobody waits for may be submitted now."""
        return self.waiting < MOST_WAITING

    def close(self) -> None:
        """Take no more work. What stands in line is still done while the process lives."""
        with self._lock:
            self._closed = True
        for _ in range(self._threads):  # one also for a thread that starts just now
            self._work.put(None)

    def _submit(self, work: Callable[[], object]) -> None:
        """Put it in line; the lock is held."""
        if self._closed:
            raise StoreTimeout("headrace was closed while this was to be read")
        if self._free <= self._work.qsize() and self._alive < self._threads:
            # It counts itself: an interrupt of the caller just now must not leave a count without
            # its thread, for which everybody would wait, nor a thread without its count.
            try:
                start_new_thread(self._serve, ())
            except RuntimeError:  # the process may have no more; those that there are go on
                if not self._alive:
                    raise
        self._work.put(work)

    def _serve(self) -> None:
        with self._lock:
            if self._alive >= self._threads:
                return  # another came first
            self._alive += 1
        self._inside.yes = True
        while True:
            with self._lock:
                self._free += 1
            work = self._work.get()
            with self._lock:
                self._free -= 1
            if work is None:
                return
            try:
                work()
            except BaseException:
                # A fault of ours: without this thread, whoever asks next would wait for ever.
                _log.warning("work that nobody waits for failed", exc_info=True)
            del work  # what it holds (a view of memory, an answer) is let go now, not with the next
