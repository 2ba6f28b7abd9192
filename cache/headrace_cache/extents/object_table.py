"""Which objects are held: those that somebody uses, and those that rest in arenas.

Every method is called with the extent store's lock held.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from headrace_cache.extents.admission import Admission
from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.memory_room import MemoryRoom
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.scope import Scope
from headrace_namespace.identity import ObjectVersion

#: Scopes remembered to be shared by objects that come next, 0.5 KB each; then all are forgotten.
MOST_SCOPES = 4096


class ObjectTable:
    """One `CachedObject` at most for each version and placement, however often it is asked for."""

    def __init__(self, room: MemoryRoom, admit: Callable[[Placement, int], Admission]) -> None:
        """`admit` says which tiers take an object of this placement and size."""
        self._room = room
        self._admit = admit
        #: An object lives for as long as a reader or an extent of its own holds it.
        self._objects = weakref.WeakValueDictionary[tuple[bytes, Placement], CachedObject]()
        #: Scopes of objects that came lately, each by itself.
        self._scopes: dict[Scope, Scope] = {}

    def attach(
        self, version: ObjectVersion, placement: Placement, scope: Scope
    ) -> tuple[CachedObject, bool]:
        """The object, now also of this scope; whether it is new, so that nothing is in memory."""
        digest = version.digest()
        used = (digest, placement) in self._objects
        held = self._found(version, placement, digest)
        if held is None:
            return self._made(version, placement, self._shared(scope), digest), True
        known = held.scope
        held.scope = known.joined(scope)
        whole = held.spans.get(0)
        if held.scope is not known and whole is not None and whole.complete:
            self._room.whole(held, whole)
        return held, not used and whole is not None and not whole.complete

    def twins(self, held: CachedObject) -> list[CachedObject]:
        """What is held of the version of this one, under whatever placement."""
        placements = {placement for _, placement in self._objects}
        placements |= {row.kind.placement for row in self._room.resting(held.digest)}
        found = [self._found(held.version, each, held.digest) for each in placements]
        return [twin for twin in found if twin is not None]

    def in_use(self) -> list[CachedObject]:
        """The objects that somebody, or an extent of their own, holds."""
        return list(self._objects.values())

    def remove(self, held: CachedObject) -> None:
        """It is not found any more; who attaches gets another."""
        if self._objects.get((held.digest, held.placement)) is held:
            del self._objects[held.digest, held.placement]

    def _found(
        self, version: ObjectVersion, placement: Placement, digest: bytes
    ) -> CachedObject | None:
        held = self._objects.get((digest, placement))
        if held is not None:
            return held
        for row in self._room.resting(digest):
            if row.kind.placement == placement:
                held = self._made(version, placement, row.kind.scope, digest)
                self._room.wake(held, row)
                return held
        return None

    def _made(
        self, version: ObjectVersion, placement: Placement, scope: Scope, digest: bytes
    ) -> CachedObject:
        admission = self._admit(placement, version.size)
        held = CachedObject(version, placement, scope, digest, admission)
        self._objects[digest, placement] = held
        return held

    def _shared(self, scope: Scope) -> Scope:
        """One scope for all objects of a folder: each of its own would take half a kilobyte."""
        if len(self._scopes) >= MOST_SCOPES and scope not in self._scopes:
            self._scopes.clear()
        return self._scopes.setdefault(scope, scope)
