"""How many requests there may be, of all and of each client, and the threads that work for them.

For the loop's thread alone; only the work itself is on others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

from headrace_cache.node.http.bounds import (
    MOST_REQUESTS,
    MOST_REQUESTS_OF_A_CLIENT,
    MOST_SCRAPES,
    MOST_THREADS,
    MOST_THREADS_OF_A_CLIENT,
    MOST_THREADS_OF_A_MOUNT,
    MOST_WRITERS_OF_A_CLIENT,
)
from headrace_cache.node.http.threads import LoopThreads

Answer = TypeVar("Answer")


class Busy(Exception):
    """As many requests as may be are under way: nothing was done, and asking again can help."""


class _UnderWay:
    """A request while it is counted: each passes here, and a generator would cost it much more."""

    __slots__ = ("_client", "_crowd")

    def __init__(self, crowd: Crowd, client: str) -> None:
        self._crowd = crowd
        self._client = client

    def __enter__(self) -> None:
        self._crowd.begin(self._client)

    def __exit__(self, *error: object) -> None:
        self._crowd.end(self._client)


class Crowd:
    """Counts requests, and runs what blocks."""

    def __init__(self) -> None:
        self._threads = LoopThreads(MOST_THREADS)
        #: What it does is no store's, so that it answers while they are all stuck.
        self._scraping = LoopThreads(1)
        self._scrapes = 0
        self._writers: Counter[str] = Counter()
        #: By the mount's path, while somebody has one or waits.
        self._mounts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._requests: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        #: Requests under way now.
        self.size = 0

    def request(self, client: str) -> _UnderWay:
        """One more request of a client, within a `with`. Raises Busy."""
        if self.size >= MOST_REQUESTS or self._requests[client] >= MOST_REQUESTS_OF_A_CLIENT:
            raise Busy("the node has as many requests as it takes")
        return _UnderWay(self, client)

    def begin(self, client: str) -> None:
        """A request of a client is under way."""
        self.size += 1
        self._requests[client] += 1
        self._empty.clear()

    def end(self, client: str) -> None:
        """It was answered."""
        self.size -= 1
        self._requests[client] -= 1
        if not self.size:
            self._empty.set()

    @contextmanager
    def writer(self, client: str) -> Generator[None]:
        """One more object that a client sends in parts. Raises Busy."""
        if self._writers[client] >= MOST_WRITERS_OF_A_CLIENT:
            raise Busy("the client writes as many objects as it may")
        self._writers[client] += 1
        try:
            yield
        finally:
            self._writers[client] -= 1

    async def on_thread(self, client: str, mount: str | None, work: Callable[[], Answer]) -> Answer:
        """What blocking work answers; each client has some of the threads at most, and so has what
        may wait for the store of `mount`."""
        turn = self._turns.setdefault(client, asyncio.Semaphore(MOST_THREADS_OF_A_CLIENT))
        # The client's first: while he waits for the mount, nobody else waits for him.
        async with turn:
            if mount is None:
                return await self._threads.run(work)
            of_mount = self._mounts.get(mount)
            if of_mount is None:
                of_mount = self._mounts[mount] = asyncio.Semaphore(MOST_THREADS_OF_A_MOUNT)
            async with of_mount:
                return await self._threads.run(work)

    async def scrape(self, work: Callable[[], Answer]) -> Answer:
        """What `work` answers, that waits for no store. Raises Busy."""
        if self._scrapes >= MOST_SCRAPES:
            raise Busy("others are told the same just now")
        self._scrapes += 1
        try:
            return await self._scraping.run(work)
        finally:
            self._scrapes -= 1

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
        self._threads.close()
        self._scraping.close()
