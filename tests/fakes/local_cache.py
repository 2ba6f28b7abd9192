"""A whole service over stores in memory, small enough that every bound is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_cache.eviction.s3_fifo import S3Fifo
from headrace_cache.extent import ExtentShape
from headrace_cache.extent_store import ExtentStore
from headrace_cache.limits import PolicySource
from headrace_cache.local_service import LocalService, Parts
from headrace_cache.placement import Guarantee
from headrace_cache.policy_watch import PolicyWatch
from headrace_cache.reader import Reader
from headrace_cache.service import OpenObject
from headrace_cache.single_flight import Flights
from headrace_cache.tiers.memory import Extent, MemoryTier
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.freshness import CHECK, Freshness
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.metrics import Counters
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import MountedStore, Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from tests.fakes.clock import ManualClock
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

PAGE = 1 << 16


@dataclass
class Rig:
    """A service and everything a test wants to reach into."""

    backends: Mapping[str, MemoryBackend]
    memory_bytes: int = 64 * PAGE
    most_extents: int = 64
    policy: PolicySource | None = None
    ssd: DictTier | None = None
    read_ahead_bytes: int = 0
    freshness: Freshness = CHECK
    tags_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.service = LocalService(self._build)

    def _build(self) -> Parts:
        self.counters = Counters()
        launcher = Offload(1)
        stores: list[MountedStore] = []
        for path, backend in self.backends.items():
            observed = ObservedBackend(backend)
            tags = self.tags_of.get(path, ())
            mount = Mount(NamespacePath.parse(path), backend.space, self.freshness, tags)
            stores.append(MountedStore(mount, observed, observed, Offload(4), Offload(4)))
        self.namespace = Namespace(stores, MemoryMetadata(), Listings(), self.clock)
        self.memory = MemoryTier(
            limit_bytes=self.memory_bytes,
            most_extents=self.most_extents,
            rule=S3Fifo[Extent](),
        )
        shape = ExtentShape.for_tier(self.memory_bytes, PAGE)
        self.store = ExtentStore(memory=self.memory, ssd=self.ssd, shape=shape)
        reader = Reader(
            namespace=self.namespace,
            policy=PolicyWatch(self.policy, self.clock),
            store=self.store,
            flights=Flights(),
            launcher=launcher,
            counters=self.counters,
            guarantee=Guarantee.UNATTESTED,
            read_ahead_bytes=self.read_ahead_bytes,
        )
        return Parts(reader, self.store, self.namespace, launcher, self.counters)


def path(text: str) -> NamespacePath:
    """A path of the tree."""
    return NamespacePath.parse(text)


def whole(opened: OpenObject) -> bytes:
    """All bytes of an object."""
    return opened.read_at(0, opened.version.size)
