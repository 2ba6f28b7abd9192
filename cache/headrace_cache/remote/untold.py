"""What this process has changed, and its node does not know yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from headrace_cache.remote.connection import NodeGone
from headrace_cache.wire import messages as m

#: Changed paths kept to tell a node of that is not there now.
MOST_UNTOLD = 100_000


class Untold:
    """Paths as they are told. Safe to use from many threads, across a fork too.

    A node forgets what it knew when it ends, so that of too many the oldest matter least.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: deque[bytes] = deque(maxlen=MOST_UNTOLD)

    def __bool__(self) -> bool:
        return bool(self._paths)

    def add(self, paths: Iterable[bytes]) -> None:
        """These were changed."""
        with self._lock:
            self._paths.extend(paths)

    def tell(self, ask: Callable[[m.Changed], object]) -> None:
        """Tell of all of them, message by message. What `ask` raises NodeGone for is kept."""
        while self._paths:
            with self._lock:
                part: list[bytes] = []
                taken = 0
                while self._paths and taken < m.MOST_LISTED_BYTES:
                    part.append(self._paths.popleft())
                    taken += len(part[-1]) + 8
            try:
                ask(m.Changed(part))
            except NodeGone:
                with self._lock:
                    self._paths.extendleft(reversed(part))
                raise

    def after_fork_in_child(self) -> None:
        """A thread of the parent may have held the lock."""
        self._lock = threading.Lock()
