"""Arenas: extents that many small objects share, and the rows that tell what lies where in them.

A tier may hold millions of small objects. As Python objects each of them took 1.5 KB, which the
process seldom gives back when they leave. So an object of one page that is whole in memory rests as
a row of 32 bytes, and is a `CachedObject` only while somebody uses it (decision 0012).

Every method is called with the extent store's lock held.
"""

from __future__ import annotations

import itertools
import math
import struct
import weakref
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.memory import Extent, Span, SpanOwner
from headrace_namespace.identity import DIGEST_BYTES

#: Objects in an arena begin at multiples of this, as Arrow wants its buffers.
ARENA_ALIGNMENT = 64
#: What the tables take for an object that rests in an arena: its row, its digest, and what arrays
#: keep spare (tests/cache/extents/test_arena.py measures it); it counts as used memory.
ROW_BYTES = 64
#: What they take for a kind that has a scope of its own, and for each folder of that.
KIND_BYTES = 1024
PART_BYTES = 64
#: A row is looked for among those whose digests begin with the same bits: 64 of a million.
SHARD_BITS = 14
#: Digest, kind, where in the arena the object begins, when it was fetched (seconds, epoch).
_ROW = struct.Struct(f"={DIGEST_BYTES}sIId")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What objects of one arena have in common: a placement, and a scope."""

    number: int
    arena: Arena
    placement: Placement
    scope: Scope

    def has(self, placement: Placement, scope: Scope) -> bool:
        """Whether what is known by this scope is of it, or was, when it had fewer names."""
        return placement == self.placement and self.scope.within(scope)


@dataclass(frozen=True, slots=True)
class Row:
    """Where an object lies, and when it was fetched; not a number where its bytes never came."""

    kind: Kind
    base: int
    since: float


class ArenaRows:
    """The rows of all arenas of a store, by the digests of their objects."""

    def __init__(self) -> None:
        self._shards: list[bytearray | None] = [None] * (1 << SHARD_BITS)
        self._kinds: dict[int, Kind] = {}
        self._numbers = itertools.count()

    def of(self, digest: bytes) -> list[Row]:
        """Where this version lies: under each placement once at most."""
        shard = self._shards[_shard_of(digest)] or b""
        found: list[Row] = []
        for at in _places(shard, digest):
            _, number, base, since = _ROW.unpack_from(shard, at)
            found.append(Row(self._kinds[number], base, since))
        return found

    def put(self, digest: bytes, row: Row) -> None:
        """Remember where it lies; its placement has no row yet."""
        number = _shard_of(digest)
        packed = _ROW.pack(digest, row.kind.number, row.base, row.since)
        self._shards[number] = (self._shards[number] or bytearray()) + packed

    def remove(self, digest: bytes, kinds: Container[int]) -> bool:
        """Forget the version's rows of these kinds; whether there were any."""
        shard = self._shards[_shard_of(digest)]
        if shard is None:
            return False
        found = [at for at in _places(shard, digest) if _ROW.unpack_from(shard, at)[1] in kinds]
        for at in reversed(found):  # so that the last row, which takes its place, is none of them
            shard[at : at + _ROW.size] = shard[-_ROW.size :]
            del shard[-_ROW.size :]
        if not shard:
            self._shards[_shard_of(digest)] = None
        return bool(found)

    def kinds(self) -> list[Kind]:
        """Every kind there is."""
        return list(self._kinds.values())

    def new_kind(self, arena: Arena, placement: Placement, scope: Scope) -> Kind:
        """One more."""
        kind = Kind(next(self._numbers), arena, placement, scope)
        self._kinds[kind.number] = kind
        return kind

    def end_kind(self, number: int) -> Kind:
        """It has no rows any more."""
        return self._kinds.pop(number)


def kind_bytes(scope: Scope) -> int:
    """What a kind of this scope is charged."""
    return KIND_BYTES + PART_BYTES * (len(scope.folders) + len(scope.locations))


def _shard_of(digest: bytes) -> int:
    return int.from_bytes(digest[:2]) >> (16 - SHARD_BITS)


def _places(shard: bytes | bytearray, digest: bytes) -> Iterator[int]:
    """Where in the shard the rows of this digest begin."""
    at = shard.find(digest)
    while at >= 0:
        if at % _ROW.size == 0:  # else it lies across two others, by chance
            yield at
        at = shard.find(digest, at + 1)


class Arena:
    """The objects in one extent that objects of a page or less share."""

    def __init__(self, extent: Extent, rows: ArenaRows) -> None:
        self.extent = extent
        #: How many got a place in it, whether or not their bytes ever came.
        self.count = 0
        self._rows = rows
        self._kinds: dict[tuple[Placement, Scope], Kind] = {}
        #: Their numbers, by placement.
        self._numbers: dict[Placement, set[int]] = {}
        #: The digests of all these rows, one behind the other.
        self._digests = bytearray()
        #: Objects in use, which must learn when it leaves.
        self._in_use = weakref.WeakSet[CachedObject]()

    @property
    def base(self) -> int:
        """Where the next object begins."""
        return -(-self.extent.taken // ARENA_ALIGNMENT) * ARENA_ALIGNMENT

    def has_room(self, size: int) -> bool:
        """Whether an object of this size has a place in it."""
        return self.base + size <= self.extent.size

    def place(self, held: CachedObject, span: Span) -> None:
        """A new object gets this part of it, for good: who tries again to bring it finds it."""
        self.count += 1
        self._digests += held.digest
        self._rows.put(held.digest, Row(self._kind_of(held), span.shift, math.nan))
        self.use(held, span)

    def use(self, held: CachedObject, span: Span) -> None:
        """The object lies there, and somebody uses it."""
        held.spans[0] = span
        self._in_use.add(held)

    def in_use(self) -> list[tuple[SpanOwner, int, Span]]:
        """Those that somebody uses, each with the index of its part and the part."""
        return [
            (held, 0, span)
            for held in self._in_use
            if (span := held.spans.get(0)) is not None and span.extent is self.extent
        ]

    def used(self, kinds: Iterable[Kind], but: Container[int]) -> list[CachedObject]:
        """Those of them that are of these kinds, known by more names or not, without these ids."""
        return [
            held
            for held in self._in_use
            if id(held) not in but and any(kind.has(held.placement, held.scope) for kind in kinds)
        ]

    def knows(self, held: CachedObject) -> bool:
        """Whether it has a kind for this object."""
        return (held.placement, held.scope) in self._kinds

    def keep(self, held: CachedObject, span: Span) -> None:
        """The object is whole, and rests here when nobody uses it, known as it is known now."""
        if not self.lose(held):
            self._digests += held.digest
        assert span.since is not None, "it has no byte"
        self._rows.put(held.digest, Row(self._kind_of(held), span.shift, span.since))

    def lose(self, held: CachedObject) -> bool:
        """It rests here no more; whether it did."""
        return self._rows.remove(held.digest, self._numbers[held.placement])

    def remove(self, held: CachedObject) -> None:
        """Its place is nobody's."""
        self.lose(held)
        self._in_use.discard(held)
        self.count -= 1

    def end(self, kinds: Iterable[Kind]) -> None:
        """Nothing of these kinds rests here any more, nor what became known by more names since;
        who uses what did was told."""
        chosen = {kind.number for kind in kinds}
        ended = {
            other.number: other
            for (placement, scope), other in self._kinds.items()
            if other.number in chosen or any(kind.has(placement, scope) for kind in kinds)
        }
        self.count -= sum(self._rows.remove(digest, ended) for digest in self._rested())
        for number, other in ended.items():
            self._rows.end_kind(number)
            del self._kinds[other.placement, other.scope]
            self._numbers[other.placement].discard(number)

    def leave(self) -> None:
        """Nothing lies here any more."""
        numbers = {kind.number for kind in self._kinds.values()}
        for digest in self._rested():
            self._rows.remove(digest, numbers)
        for number in numbers:
            self._rows.end_kind(number)
        self._kinds.clear()
        self._numbers.clear()
        self._digests.clear()
        self._in_use.clear()
        self.count = 0

    def _rested(self) -> Iterator[bytes]:
        for at in range(0, len(self._digests), DIGEST_BYTES):
            yield bytes(self._digests[at : at + DIGEST_BYTES])

    def _kind_of(self, held: CachedObject) -> Kind:
        kind = self._kinds.get((held.placement, held.scope))
        if kind is None:
            kind = self._rows.new_kind(self, held.placement, held.scope)
            self._kinds[held.placement, held.scope] = kind
            self._numbers.setdefault(held.placement, set()).add(kind.number)
        return kind
