"""A whole service over faulty stores, its mounts, its policy and its tiers; it can be restarted."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_cache.tiers.protocol import PageTier
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.backends.protocol import Backend, BackendContext
from headrace_namespace.backends.retry import RetryingBackend, RetryPolicy
from headrace_namespace.config import table_from
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.freshness import CHECK, PINNED, Freshness
from headrace_namespace.metadata.ledger import MemoryLedger
from headrace_namespace.mount_table import Mount
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.run_time_mounts import RunTimeMounts
from headrace_namespace.tree import MountedStore, Trees
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import Rig
from tests.model import scale
from tests.model.faulty_store import FaultyStore

STORES = ("lake", "pin", "old", "extra")
FOLDERS = ("", "a", "b")
#: How long the cache may hold a byte of the mount that says so.
TTL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class MountKind:
    """A mount as the model knows it."""

    store: str
    freshness: Freshness = CHECK
    ttl_seconds: float | None = None


#: Those of the configuration.
FIXED: Mapping[str, MountKind] = {
    "/lake": MountKind("lake"),
    "/pin": MountKind("pin", PINNED),
    "/old": MountKind("old", Freshness(20.0), TTL_SECONDS),
}
#: Those that come and go: another way to a store, a store of its own, one over a folder of another.
PASSING: Mapping[str, MountKind] = {
    "/alias": MountKind("lake"),
    "/extra": MountKind("extra", Freshness(2.0)),
    "/lake/b": MountKind("extra"),
}


class LastingLedger(MemoryLedger):
    """Outlives the service, as one on a disk does."""

    lasts = True


class Opener:
    """Opens the model's stores by their URLs."""

    def __init__(self, stores: Mapping[str, FaultyStore]) -> None:
        self._stores = stores

    def open(self, declaration: MountDeclaration) -> MountedStore:
        mount = declaration.mount
        observed = ObservedBackend(self.open_bare(declaration))
        # A clock of its own: pauses between attempts pass no time of the model's.
        policy, chance = RetryPolicy(attempts=2), random.Random(0)
        worn = RetryingBackend(observed, ManualClock(), policy, chance)
        return MountedStore(mount, worn, observed, Offload(4), Offload(4))

    def open_bare(self, declaration: MountDeclaration) -> Backend:
        return self._stores[declaration.mount.url.removeprefix("model://")]

    def stand_in(self, mount: Mount, reason: str, base_folder: str) -> MountedStore:
        raise AssertionError(reason)


def declared(path: str, kind: MountKind) -> MountDeclaration:
    """What a person would write of this mount."""
    url, name = f"model://{kind.store}", f"the mount {path}"
    written: dict[str, object] = {"path": path, "url": url, "freshness": str(kind.freshness)}
    mount = Mount(
        NamespacePath.parse(path), url, kind.freshness, ttl_seconds=kind.ttl_seconds, source=name
    )
    return MountDeclaration(mount, table_from({}, name), "/", written)


@dataclass
class ModelRig(Rig):
    """One life of the service."""

    stores: Mapping[str, FaultyStore] = field(default_factory=dict[str, FaultyStore])
    tier: PageTier | None = None
    page_bytes: int = scale.PAGE
    most_extents: int = scale.MOST_EXTENTS
    read_ahead_bytes: int = 4 * scale.PAGE
    put_bytes: int = scale.PUT_BYTES
    most_bytes_under_way: int = scale.MOST_BYTES_UNDER_WAY

    def trees(self) -> Trees:
        opener = Opener(self.stores)
        fixed = [opener.open(declared(path, kind)) for path, kind in FIXED.items()]
        context = BackendContext(self.clock, {}, "/")
        return RunTimeMounts(fixed, self.ledger, opener, context, ())

    def page_tier(self) -> PageTier | None:
        return self.tier

    def idle(self) -> None:
        """Return when nothing is under way that was begun before."""
        self.settle()
        self.flights.wait_for_all()
        self.settle()
        self.store.flush()
