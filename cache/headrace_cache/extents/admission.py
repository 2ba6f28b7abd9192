"""Which tiers take an object's pages: what the placement allows, and what fits beside the rest."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_cache.policy.placement import Placement

#: An object above this share of the SSD tier is not sealed there: it would push out all others.
LARGEST_SHARE_OF_SSD = 0.5


@dataclass(frozen=True, slots=True)
class Admission:
    """Which tiers take the pages of one object."""

    memory: bool
    ssd: bool


def admit(placement: Placement, size: int, *, memory_bytes: int, ssd_bytes: int) -> Admission:
    """Whether each tier (of so many bytes) takes pages of an object of `size` bytes.

    The SSD tier is filled from memory, so what memory may not hold it never sees. An object larger
    than memory is still taken: it streams through in runs.
    """
    memory = placement.allows_memory and memory_bytes > 0
    ssd = memory and placement.allows_ssd and size <= LARGEST_SHARE_OF_SSD * ssd_bytes
    return Admission(memory, ssd)
