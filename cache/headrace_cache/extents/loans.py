"""Extents that other processes have mapped: which, and how many have each.

Memory that is lent cannot be taken back by force: who has it mapped keeps it until he lets it go.
So it stays charged and in its tier meanwhile, and he is asked for it when its turn to leave comes.

Every method is called with the extent store's lock held, except where it says otherwise.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from headrace_cache.tiers.memory import Extent, Span


@dataclass(frozen=True, slots=True)
class Loan:
    """One object's part of an extent, for another process to read.

    Bytes `start` to `stop` of the object lie in the memory from `start + shift` on. They are all
    there where it is `complete`; else those that were asked for are, and from `presence` on (-1:
    nowhere) there is a byte for each of its pages, 1 once it is there. `new`: the borrower has not
    this extent yet.
    """

    extent: Extent
    start: int
    stop: int
    shift: int
    complete: bool
    presence: int
    new: bool


class Loans:
    """What is lent. A borrower has each extent once, however many objects he reads in it."""

    def __init__(self) -> None:
        self._lent: dict[int, Extent] = {}

    def lend(self, span: Span, has: Container[int]) -> Loan:
        """Lend the extent of this span, unless the borrower has it."""
        extent = span.extent
        new = extent.number not in has
        extent.uses += 1
        if new:
            extent.lent += 1
            self._lent[extent.number] = extent
        return Loan(extent, span.start, span.stop, span.shift, span.complete, extent.presence, new)

    def give_back(self, number: int) -> Extent | None:
        """A borrower let go of an extent; the extent where nobody has it any more."""
        extent = self._lent[number]
        extent.lent -= 1
        if extent.lent:
            return None
        del self._lent[number]
        return extent

    def sizes(self) -> dict[int, int]:
        """The bytes of every extent that is lent, by its number; any thread may ask."""
        return {extent.number: extent.bytes_held for extent in tuple(self._lent.values())}

    @property
    def bytes_held(self) -> int:
        """Bytes of memory that others have mapped; any thread may ask."""
        return sum(extent.bytes_held for extent in tuple(self._lent.values()))
