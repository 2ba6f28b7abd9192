"""Where this layer is put together; what only a node needs, and who reaches one, beside this, in
`node_opening.py`. And nowhere else."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_cache.backing import most_extents
from headrace_cache.eviction.s3_fifo import S3Fifo
from headrace_cache.extents.extent import ExtentShape
from headrace_cache.extents.extent_store import ExtentStore
from headrace_cache.extents.page import PAGE_BYTES
from headrace_cache.limits import CacheSettings, PolicySource
from headrace_cache.local_service import LocalService, Parts
from headrace_cache.policy.company import Company
from headrace_cache.policy.parsing import parse_policy
from headrace_cache.policy.placement import Guarantee
from headrace_cache.policy.purge_records import PurgeRecords
from headrace_cache.policy.purging import Purging
from headrace_cache.policy.watch import Patrol, PolicyWatch
from headrace_cache.principals import own_principal
from headrace_cache.reading.prefetch import WIDEST_WINDOW_BYTES
from headrace_cache.reading.reader import Reader
from headrace_cache.reading.single_flight import Flights
from headrace_cache.service import CacheService
from headrace_cache.tiers.memory import Extent, MemoryTier
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_cache.tiers.write_behind import WriteBehindTier
from headrace_cache.totals import FetchCounters, TotalsKeeper
from headrace_cache.writing.staging import Staging
from headrace_cache.writing.writer import Writer
from headrace_namespace.clock import Clock
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.metadata.ledger import (
    Book,
    Ledger,
    LedgerFault,
    MemoryLedger,
    open_ledger,
)
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.opening import open_namespace

_log = logging.getLogger(__name__)

#: In the state folder: on which each process that shares it holds a lock.
COMPANY_FILE = "in-use.lock"
#: Of the memory tier, how much may wait to be sealed: it cannot be given to others meanwhile.
SEALING_SHARE = 0.25
#: Of the memory tier, how much one reader may have fetched ahead.
READ_AHEAD_SHARE = 0.125


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a cache tells of that lends its memory: an extent to give back, and that what was told
    of objects, or of what their paths lead to, may no longer hold."""

    call_back: Callable[[int], None]
    on_withdraw: Callable[[], None]
    on_written: Callable[[], None]


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
    return LocalService(
        functools.partial(built_parts, tuple(mounts), cache, watch, answers, context)
    )


def check_policy(text: str, name: str) -> tuple[int, tuple[str, ...]]:
    """The epoch and the rules' names of a policy file's text. Raises ConfigError."""
    policy = parse_policy(text, name)
    return policy.epoch, tuple(rule.name for rule in policy.rules)


def built_parts(
    mounts: Sequence[MountDeclaration],
    cache: CacheSettings,
    policy: PolicyWatch,
    answers: MemoryMetadata,
    context: BackendContext,
    sharing: Sharing | None = None,
) -> Parts:
    """All that a service is made of; `sharing` is of one that lends its memory."""
    counters = FetchCounters()
    launcher = Offload(1)
    own_folders = (str(cache.folder), str(cache.state_folder))
    ledger, ssd_bytes = _kept(cache)
    try:
        namespace = open_namespace(
            mounts,
            context,
            answers.with_fresh_lock(),
            ledger,
            own_folders,
            on_written=sharing.on_written if sharing else None,
        )
    except BaseException:
        ledger.close()
        raise
    memory = MemoryTier(
        limit_bytes=cache.memory_bytes,
        most_extents=most_extents(shared=sharing is not None),
        rule=S3Fifo[Extent](),
        call_back=sharing.call_back if sharing else None,
    )
    ssd = _open_ssd(cache, context.clock) if ssd_bytes else None
    store = ExtentStore(
        memory=memory,
        ssd=ssd,
        shape=ExtentShape.for_tier(cache.memory_bytes, lent=sharing is not None),
        clock=context.clock,
        on_withdraw=sharing.on_withdraw if sharing else None,
    )
    reader = Reader(
        namespace=namespace,
        policy=policy,
        store=store,
        flights=Flights(),
        launcher=launcher,
        counters=counters,
        guarantee=Guarantee.UNATTESTED,
        principal=own_principal(),
        read_ahead_bytes=min(WIDEST_WINDOW_BYTES, int(cache.memory_bytes * READ_AHEAD_SHARE)),
    )
    writer = Writer(
        reader=reader, namespace=namespace, staging=Staging(store, launcher), launcher=launcher
    )
    totals = TotalsKeeper(ledger, counters, namespace.requests, context.clock)
    counters.on_fetch = totals.add_if_due
    company = Company(cache.state_folder / COMPANY_FILE)
    purging, patrol = _enforce(policy, namespace, store, ledger, launcher, company, context.clock)
    return Parts(
        reader, store, namespace, launcher, counters, writer, ledger, totals, purging, patrol
    )


def _kept(cache: CacheSettings) -> tuple[Ledger, int]:
    """The ledger, and the bytes of the SSD tier; of a cache that is another user's, neither: that
    is one thing to tell of, not two."""
    if cache.ssd_bytes and _is_closed(cache.folder) and _is_closed(cache.state_folder):
        _log.warning(
            "the folders %s and %s are another user's: this process has no SSD tier, and knows no "
            "mounts made at run time",
            cache.folder,
            cache.state_folder,
        )
        return MemoryLedger(), 0
    return open_ledger(cache.state_folder), cache.ssd_bytes


def _is_closed(folder: Path) -> bool:
    """Whether this user may not look into a folder that is there."""
    try:
        os.stat(os.path.join(folder, "."))  # pathlib would leave the dot out
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _enforce(
    policy: PolicyWatch,
    namespace: Namespace,
    store: ExtentStore,
    ledger: Ledger,
    launcher: Offload,
    company: Company,
    clock: Clock,
) -> tuple[Purging, Patrol]:
    """Join the kept policy, purge what it forbids before anything is served, and watch it."""
    policy.begin(_book(ledger, "policy"), launcher.run)
    purging = Purging(
        watch=policy,
        namespace=namespace,
        store=store,
        records=PurgeRecords(_book(ledger, "purges")),
        company=company,
        clock=clock,
    )
    patrol = Patrol(policy)

    def follow() -> None:
        purging.enforce()
        patrol.start()  # another process may have brought the first policy

    policy.follow(follow)
    launcher.run(follow)
    return purging, patrol


def _book(ledger: Ledger, name: str) -> Book:
    """A book of the ledger; where that cannot be made, one of this process alone."""
    try:
        return ledger.book(name)
    except LedgerFault as error:
        _log.warning("what headrace keeps is forgotten with this process: %s", error)
        return MemoryLedger().book(name)


def _open_ssd(cache: CacheSettings, clock: Clock) -> PageTier:
    return WriteBehindTier(
        open_ssd_tier(
            folder=cache.folder,
            limit_bytes=cache.ssd_bytes,
            key_file=cache.key_file,
            page_bytes=PAGE_BYTES,
            clock=clock,
        ),
        backlog_bytes=int(cache.memory_bytes * SEALING_SHARE),
    )
