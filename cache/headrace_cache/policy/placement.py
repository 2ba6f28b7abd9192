"""The ticket that says which tiers may hold a byte. Only the policy issues one.

Each property is a lattice, its values ordered from loose to strict, and placements join to the
strictest of each: commutative, associative, idempotent and monotone, so that the order of rules
cannot matter and adding a rule can never weaken.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from headrace_cache.policy.audience import EVERYBODY, Audience


class Persistence(IntEnum):
    """Where bytes may be kept."""

    ANY = 0
    SEALED_SSD = 1
    MEMORY_ONLY = 2
    NO_CACHE = 3
    DENY = 4

    @property
    def word(self) -> str:
        """As policy files spell it."""
        return self.name.lower().replace("_", "-")


class MetadataKeeping(IntEnum):
    """Where names, sizes, versions and statistics may be kept."""

    PERSIST = 0
    MEMORY_ONLY = 1

    @property
    def word(self) -> str:
        """As policy files spell it."""
        return self.name.lower().replace("_", "-")


class Guarantee(IntEnum):
    """What a host must prove before it may hold the bytes (memory-only paths)."""

    UNATTESTED = 0
    G1 = 1
    G2 = 2

    @property
    def word(self) -> str:
        """As policy files spell it."""
        return "unattested" if self is Guarantee.UNATTESTED else self.name


@dataclass(frozen=True, slots=True)
class Placement:
    """Which tiers may hold an object's bytes and metadata, what the host must guarantee, and who
    may read it."""

    persistence: Persistence
    metadata: MetadataKeeping
    guarantee: Guarantee
    audience: Audience = EVERYBODY

    @property
    def allows_memory(self) -> bool:
        """Whether the memory tier may hold the bytes."""
        return self.persistence <= Persistence.MEMORY_ONLY

    @property
    def allows_ssd(self) -> bool:
        """Whether the sealed SSD tier may hold the bytes.

        Its index entry is itself metadata, so metadata that must stay in memory keeps the bytes
        off the disk too.
        """
        return (
            self.persistence <= Persistence.SEALED_SSD and self.metadata is MetadataKeeping.PERSIST
        )

    @property
    def denies(self) -> bool:
        """Whether the bytes may not be read at all."""
        return self.persistence is Persistence.DENY

    @property
    def words(self) -> str:
        """Where its bytes may be kept and what else is demanded, as policy files spell it."""
        told = [self.persistence.word]
        if self.metadata is not MetadataKeeping.PERSIST:
            told.append(f"metadata {self.metadata.word}")
        if self.guarantee is not Guarantee.UNATTESTED:
            told.append(self.guarantee.word)
        return " for ".join((" with ".join(told), *self.audience.words))

    def join(self, other: Placement) -> Placement:
        """The strictest of both, property by property."""
        return Placement(
            max(self.persistence, other.persistence),
            max(self.metadata, other.metadata),
            max(self.guarantee, other.guarantee),
            self.audience.join(other.audience),
        )
