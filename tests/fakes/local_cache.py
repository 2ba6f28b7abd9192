"""A whole service over stores in memory, small enough that every bound is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace_cache.eviction.s3_fifo import S3Fifo
from headrace_cache.extents.extent import ExtentShape
from headrace_cache.extents.extent_store import ExtentStore
from headrace_cache.limits import PolicySource
from headrace_cache.local_service import LocalService, Parts
from headrace_cache.policy.company import Company
from headrace_cache.policy.placement import Guarantee
from headrace_cache.policy.purge_records import PurgeRecords
from headrace_cache.policy.purging import Purging
from headrace_cache.policy.watch import Patrol, PolicyWatch
from headrace_cache.principals import own_principal
from headrace_cache.reading.reader import Reader
from headrace_cache.service import OpenObject
from headrace_cache.tiers.memory import Extent, MemoryTier
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.totals import TotalsKeeper
from headrace_cache.writing.staging import Staging
from headrace_cache.writing.writer import Writer
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.backends.protocol import Backend
from headrace_namespace.freshness import CHECK, Freshness
from headrace_namespace.metadata.ledger import Ledger, MemoryLedger
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.metrics import Counters
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.tree import FixedTree, MountedStore, Trees
from tests.fakes.clock import ManualClock
from tests.fakes.page_tier import DictTier
from tests.fakes.watched_flights import WatchedFlights

PAGE = 1 << 16


@dataclass
class Rig:
    """A service and everything a test wants to reach into."""

    backends: Mapping[str, Backend]
    memory_bytes: int = 64 * PAGE
    most_extents: int = 64
    policy: PolicySource | None = None
    ssd: DictTier | None = None
    read_ahead_bytes: int = 0
    put_bytes: int = 4 * PAGE
    most_bytes_under_way: int = 64 * PAGE
    freshness: Freshness = CHECK
    tags_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    ttl_seconds: float | None = None
    clock: ManualClock = field(default_factory=ManualClock)

    ledger: Ledger = field(default_factory=MemoryLedger)
    #: No file: then it believes that there are other processes.
    company_file: Path = Path("/nowhere/in-use.lock")
    page_bytes: int = PAGE

    def __post_init__(self) -> None:
        self.watch = PolicyWatch(self.policy, self.clock)
        self.service = LocalService(self._build)

    def _build(self) -> Parts:
        self.counters = Counters()
        self.launcher = launcher = Offload(1)
        self.namespace = Namespace(self.trees(), MemoryMetadata(), Listings(), self.clock)
        self.memory = MemoryTier(
            limit_bytes=self.memory_bytes,
            most_extents=self.most_extents,
            rule=S3Fifo[Extent](),
        )
        shape = ExtentShape.for_tier(self.memory_bytes, self.page_bytes)
        self.store = ExtentStore(
            memory=self.memory, ssd=self.page_tier(), shape=shape, clock=self.clock
        )
        self.flights = WatchedFlights()
        reader = Reader(
            namespace=self.namespace,
            policy=self.watch,
            store=self.store,
            flights=self.flights,
            launcher=launcher,
            counters=self.counters,
            principal=own_principal(),
            guarantee=Guarantee.UNATTESTED,
            read_ahead_bytes=self.read_ahead_bytes,
        )
        self.staging = Staging(self.store, launcher)
        self.writer = writer = Writer(
            reader=reader,
            namespace=self.namespace,
            staging=self.staging,
            launcher=launcher,
            put_bytes=self.put_bytes,
            most_bytes_under_way=self.most_bytes_under_way,
        )
        totals = TotalsKeeper(self.ledger, self.counters, self.namespace.requests, self.clock)
        return Parts(
            reader,
            self.store,
            self.namespace,
            launcher,
            self.counters,
            writer,
            self.ledger,
            totals,
            self._enforced(),
            Patrol(self.watch),
        )

    def trees(self) -> Trees:
        """The mounts: here one of each backend, all with the same contract."""
        stores: list[MountedStore] = []
        for path, backend in self.backends.items():
            observed = ObservedBackend(backend)
            tags = self.tags_of.get(path, ())
            mount = Mount(
                NamespacePath.parse(path),
                backend.name,
                self.freshness,
                tags,
                ttl_seconds=self.ttl_seconds,
            )
            stores.append(MountedStore(mount, observed, observed, Offload(4), Offload(4)))
        return FixedTree(stores, self.clock)

    def page_tier(self) -> PageTier | None:
        """What keeps pages beyond memory."""
        return self.ssd

    def _enforced(self) -> Purging:
        """As `opening` does, but nobody looks by himself: tests move the clock, or say `look`."""
        self.watch.begin(self.ledger.book("policy"), self.launcher.run)
        purging = Purging(
            watch=self.watch,
            namespace=self.namespace,
            store=self.store,
            records=PurgeRecords(self.ledger.book("purges")),
            company=Company(self.company_file),
            clock=self.clock,
        )
        self.watch.follow(purging.enforce)
        purging.enforce()
        return purging

    def settle(self) -> None:
        """Return when the launcher has done what it was told before."""
        self.launcher.run(lambda: None)


def path(text: str) -> NamespacePath:
    """A path of the tree."""
    return NamespacePath.parse(text)


def whole(opened: OpenObject) -> bytes:
    """All bytes of an object."""
    return opened.read_at(0, opened.version.size)
