"""An extent store without tiers behind it, whose objects nobody uses for longer than a call."""

from __future__ import annotations

from headrace_cache.eviction.s3_fifo import S3Fifo
from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.extent import ExtentShape
from headrace_cache.extents.extent_store import ExtentStore
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.memory import Extent, MemoryTier
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import PAGE

FREE = Placement(Persistence.ANY, MetadataKeeping.PERSIST, Guarantee.UNATTESTED)
SECRET = Placement(Persistence.MEMORY_ONLY, MetadataKeeping.PERSIST, Guarantee.UNATTESTED)


def scope_of(*folders: str) -> Scope:
    mount = NamespacePath("/lake")
    return Scope(frozenset(Name(NamespacePath(folder), mount, frozenset()) for folder in folders))


LAKE, HR = scope_of("/lake"), scope_of("/hr")


def version_of(number: int, size: int = 100) -> ObjectVersion:
    return ObjectVersion(ObjectRef("memory:lake", str(number)), "v1", size, strong=True)


def content_of(version: ObjectVersion) -> bytes:
    return version.ref.key.encode().ljust(version.size, b".")


class Shelf:
    """The store, its memory tier, and what is done with them."""

    def __init__(self, *, lends: bool, memory_bytes: int = 64 * PAGE) -> None:
        self.memory = MemoryTier(
            limit_bytes=memory_bytes,
            most_extents=64,
            rule=S3Fifo[Extent](),
            call_back=(lambda _: None) if lends else None,
        )
        shape = ExtentShape.for_tier(memory_bytes, PAGE, lent=lends)
        self.store = ExtentStore(memory=self.memory, ssd=None, shape=shape, clock=ManualClock())

    def attach(
        self, version: ObjectVersion, placement: Placement = FREE, scope: Scope = LAKE
    ) -> CachedObject:
        return self.store.attach(version, placement, scope)[0]

    def bring(
        self, version: ObjectVersion, placement: Placement = FREE, scope: Scope = LAKE
    ) -> CachedObject:
        held = self.attach(version, placement, scope)
        fill = self.store.begin_fill(held, range(1))
        assert fill is not None
        with fill:
            with fill.target(range(1)) as target:
                target[:] = content_of(version)
            fill.publish([0])
        return held

    def has(self, version: ObjectVersion, placement: Placement = FREE) -> bool:
        """Whether memory holds it, and then rightly."""
        held, new = self.store.attach(version, placement, LAKE)
        span = held.spans.get(0)
        if span is None or not span.complete:
            return False
        assert not new
        assert not self.store.missing(held, range(1))
        assert span.extent.mapping[span.place(0, held.size)] == content_of(version)
        return True
