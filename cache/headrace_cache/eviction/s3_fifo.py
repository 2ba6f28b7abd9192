"""S3-FIFO: three queues that keep what is used again and let pass what is read once.

After Yang, Zhang, Qiu, Yue and Vinayak, "FIFO queues are all you need for cache eviction" (SOSP
2023). New items enter a small queue with a tenth of the bytes; one used again before it reaches the
end moves to the main queue, else it leaves and only its key is remembered (the ghost queue), so
that its return goes straight to main. Main is a FIFO in which a used item goes round again. A scan
of a large file therefore passes through the small queue and never empties the main one. A hit only
raises a small number: it takes no lock and moves nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic

from headrace_cache.eviction.protocol import Item

#: Uses above this are not told apart (two bits, as in the paper).
MOST_USES = 3
#: The small queue's share of the bytes (the paper's 10 %).
SMALL_SHARE = 0.1
#: Keys remembered after their items left: as many as main holds, at least this many.
LEAST_GHOSTS = 64


class S3Fifo(Generic[Item]):
    """The rule as bookkeeping over items of different sizes; the caller holds the tier's lock."""

    def __init__(self) -> None:
        self._small: OrderedDict[Hashable, Item] = OrderedDict()
        self._main: OrderedDict[Hashable, Item] = OrderedDict()
        self._ghosts: OrderedDict[Hashable, None] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0

    def insert(self, item: Item) -> None:
        """The tier holds `item` now; one that left not long ago is known again."""
        if item.key in self._ghosts:
            self.readmit(item)
        else:
            self._small[item.key] = item
            self._small_bytes += item.bytes_held

    def grown(self, item: Item, count: int) -> None:
        """The item holds `count` bytes more than before."""
        if item.key in self._small:
            self._small_bytes += count
        elif item.key in self._main:
            self._main_bytes += count

    def remove(self, item: Item) -> None:
        """The tier let `item` go for another reason; it is not remembered."""
        if self._small.pop(item.key, None) is not None:
            self._small_bytes -= item.bytes_held
        elif self._main.pop(item.key, None) is not None:
            self._main_bytes -= item.bytes_held

    def readmit(self, item: Item) -> None:
        """The item just chosen is in use: it goes to the end of main."""
        self._ghosts.pop(item.key, None)
        self._main[item.key] = item
        self._main_bytes += item.bytes_held

    def choose(self) -> Item | None:
        """The item that should leave now; None if every one is busy.

        Ends: each step lets one go, moves one from small to main for good, or lowers a `uses`.
        """
        while True:
            small, main = _first_idle(self._small), _first_idle(self._main)
            share = SMALL_SHARE * (self._small_bytes + self._main_bytes)
            if small is not None and (main is None or self._small_bytes > share):
                self.remove(small)
                if small.uses == 0:
                    self._remember(small.key)
                    return small
                small.uses = 0
                self.readmit(small)
            elif main is None:
                return None
            elif main.uses > 0:
                main.uses = min(main.uses, MOST_USES) - 1
                self._main.move_to_end(main.key)
            else:
                self.remove(main)
                return main

    def _remember(self, key: Hashable) -> None:
        self._ghosts[key] = None
        most = max(LEAST_GHOSTS, len(self._main) + len(self._small))
        while len(self._ghosts) > most:
            self._ghosts.popitem(last=False)


def _first_idle(queue: OrderedDict[Hashable, Item]) -> Item | None:
    return next((item for item in queue.values() if not item.busy), None)
