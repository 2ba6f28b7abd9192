"""What a tier asks of a rule that chooses what leaves. LRU and S3-FIFO are kinds of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, TypeVar


class Evictable(Protocol):
    """Something a tier holds. Readers raise `uses` when they use it, without any lock."""

    uses: int

    @property
    def key(self) -> Hashable:
        """By what it is known again after it left."""
        ...

    @property
    def bytes_held(self) -> int:
        """How much memory leaves with it."""
        ...

    @property
    def busy(self) -> bool:
        """Whether it must not leave now (a fill is under way)."""
        ...


Item = TypeVar("Item", bound=Evictable)


class EvictionRule(Protocol[Item]):
    """Pure bookkeeping; whoever calls holds the tier's lock."""

    def insert(self, item: Item) -> None:
        """The tier holds `item` now."""
        ...

    def grown(self, item: Item, count: int) -> None:
        """The item holds `count` bytes more than before."""
        ...

    def remove(self, item: Item) -> None:
        """The tier let `item` go for another reason."""
        ...

    def choose(self) -> Item | None:
        """The item that should leave now, no longer counted as held; None if every one is busy."""
        ...

    def readmit(self, item: Item) -> None:
        """The item just chosen could not leave: it is in use. It is held on, as a used one."""
        ...
