"""How many requests there may be, of all and of each client, and the threads that work for them.

For the loop's thread alone; only the work itself is on others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from headrace_cache.node.http.bounds import (
    MOST_REQUESTS,
    MOST_REQUESTS_OF_A_CLIENT,
    MOST_THREADS,
    MOST_THREADS_OF_A_CLIENT,
)

Answer = TypeVar("Answer")


class Busy(Exception):
    """As many requests as may be are under way: nothing was done, and asking again can help."""


class Crowd:
    """Counts requests, and runs what blocks."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST_THREADS, "headrace-http")
        self._requests: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        #: Requests under way now.
        self.size = 0

    @contextmanager
    def request(self, client: str) -> Generator[None]:
        """One more request of a client. Raises Busy."""
        if self.size >= MOST_REQUESTS or self._requests[client] >= MOST_REQUESTS_OF_A_CLIENT:
            raise Busy("the node has as many requests as it takes")
        self.size += 1
        self._requests[client] += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.size -= 1
            self._requests[client] -= 1
            if not self.size:
                self._empty.set()

    async def on_thread(self, client: str, work: Callable[[], Answer]) -> Answer:
        """What blocking work answers; each client has some of the threads at most."""
        turn = self._turns.setdefault(client, asyncio.Semaphore(MOST_THREADS_OF_A_CLIENT))
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def wait_until_empty(self, seconds: float) -> bool:
        """Return when no request is under way, or the time is over: whether none is."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Take no more work; what a thread is at goes on to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
