"""Threads that work for an event loop, and end with the process instead of holding it up.

Those of `concurrent.futures` are waited for when the interpreter ends: one that is stuck in a store
would keep a node that has ended from being gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from headrace_namespace.offload import Offload

Answer = TypeVar("Answer")


class LoopThreads:
    """At most `threads` threads, started as they are needed."""

    def __init__(self, threads: int) -> None:
        self._threads = Offload(threads)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """What `work` answers, once a thread has time for it. Raises StoreTimeout once closed."""
        done: Future[Answer] = Future()
        self._threads.submit(partial(_do, done, work))
        waiting = asyncio.wrap_future(done)
        try:
            return await waiting
        finally:
            # An error holds this frame: both would hold what was read until they are looked for.
            del done, waiting, work

    def close(self) -> None:
        """Take no more work; what a thread is at goes on to its end."""
        self._threads.close()


def _do(done: Future[Answer], work: Callable[[], Answer]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        answer = work()
    except BaseException as error:  # whoever waits gets it, whatever it is
        done.set_exception(error)
        del done, work  # as above
    else:
        done.set_result(answer)
