"""Where this layer is put together, and nowhere else."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from headrace_cache.eviction.s3_fifo import S3Fifo
from headrace_cache.extent import ExtentShape
from headrace_cache.extent_store import ExtentStore
from headrace_cache.limits import CacheSettings, PolicySource
from headrace_cache.local_service import LocalService, Parts
from headrace_cache.page import PAGE_BYTES
from headrace_cache.placement import Guarantee
from headrace_cache.policy_file import parse_policy
from headrace_cache.policy_watch import PolicyWatch
from headrace_cache.prefetch import WIDEST_WINDOW_BYTES
from headrace_cache.reader import Reader
from headrace_cache.service import CacheService
from headrace_cache.single_flight import Flights
from headrace_cache.tiers.backing import most_extents
from headrace_cache.tiers.memory import Extent, MemoryTier
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_cache.tiers.write_behind import WriteBehindTier
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.metrics import Counters
from headrace_namespace.offload import Offload
from headrace_namespace.opening import open_namespace

#: Of the memory tier, how much may wait to be sealed: it cannot be given to others meanwhile.
SEALING_SHARE = 0.25
#: Of the memory tier, how much one reader may have fetched ahead.
READ_AHEAD_SHARE = 0.125


def open_service(
    mounts: Sequence[MountDeclaration],
    cache: CacheSettings,
    policy: PolicySource | None,
    context: BackendContext,
) -> CacheService:
    """A cache in this process over these mounts. Raises ConfigError, also for a bad policy.

    No store is asked yet. A cache folder that cannot be used costs the SSD tier, not the service.
    """
    watch = PolicyWatch(policy, context.clock)
    answers = MemoryMetadata()
    return LocalService(functools.partial(_build, tuple(mounts), cache, watch, answers, context))


def check_policy(text: str, name: str) -> tuple[int, tuple[str, ...]]:
    """The epoch and the rules' names of a policy file's text. Raises ConfigError."""
    policy = parse_policy(text, name)
    return policy.epoch, tuple(rule.name for rule in policy.rules)


def _build(
    mounts: Sequence[MountDeclaration],
    cache: CacheSettings,
    policy: PolicyWatch,
    answers: MemoryMetadata,
    context: BackendContext,
) -> Parts:
    counters = Counters()
    launcher = Offload(1)
    namespace = open_namespace(mounts, context, answers.with_fresh_lock())
    memory = MemoryTier(
        limit_bytes=cache.memory_bytes,
        most_extents=most_extents(),
        rule=S3Fifo[Extent](),
    )
    ssd = _open_ssd(cache) if cache.ssd_bytes else None
    store = ExtentStore(memory=memory, ssd=ssd, shape=ExtentShape.for_tier(cache.memory_bytes))
    reader = Reader(
        namespace=namespace,
        policy=policy,
        store=store,
        flights=Flights(),
        launcher=launcher,
        counters=counters,
        guarantee=Guarantee.UNATTESTED,
        read_ahead_bytes=min(WIDEST_WINDOW_BYTES, int(cache.memory_bytes * READ_AHEAD_SHARE)),
    )

    return Parts(reader, store, namespace, launcher, counters)


def _open_ssd(cache: CacheSettings) -> PageTier:
    return WriteBehindTier(
        open_ssd_tier(
            folder=cache.folder,
            limit_bytes=cache.ssd_bytes,
            key_file=cache.key_file,
            page_bytes=PAGE_BYTES,
        ),
        backlog_bytes=int(cache.memory_bytes * SEALING_SHARE),
    )
