"""Which segment leaves next: the oldest, but one that was used since it was last looked at gets one
more round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: How many used segments one choice passes over. It bounds the walk where everything is in use;
#: then the oldest leaves, as it would in a plain queue.
MOST_SPARED = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A segment that may leave, and whether a page of it was read since it was last considered."""

    segment: int
    used: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The segment that leaves (None: there is none), and those sent to the back of the queue."""

    victim: int | None
    spared: tuple[int, ...]


def choose(oldest_first: Iterable[Candidate]) -> Choice:
    """The victim among the candidates, reading no further than it must."""
    spared: list[int] = []
    for candidate in oldest_first:
        if not candidate.used:
            return Choice(candidate.segment, tuple(spared))
        spared.append(candidate.segment)
        if len(spared) == MOST_SPARED:
            break
    if not spared:
        return Choice(None, ())
    return Choice(spared[0], tuple(spared[1:]))
