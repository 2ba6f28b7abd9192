"""Turns: so many at once, and who comes then waits in line without a thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Who = TypeVar("Who")


class Turns(Generic[Who]):
    """Safe to use from many threads."""

    __slots__ = ("__weakref__", "_lock", "_most", "_taken", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._taken = 0
        #: None while nobody ever stood in line: an empty one takes 760 bytes.
        self._waiting: deque[Who] | None = None

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiting or ())

    def take(self, who: Who) -> bool:
        """Whether it is `who`'s turn; else it stands in line, and comes out of `give`."""
        with self._lock:
            if self._taken >= self._most:
                if self._waiting is None:
                    self._waiting = deque()
                self._waiting.append(who)
                return False
            self._taken += 1
            return True

    def give(self) -> Who | None:
        """A turn is over: who has it next, if somebody waits."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._taken -= 1
            return None
