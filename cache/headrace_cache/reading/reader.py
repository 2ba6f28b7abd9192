"""The read journey, top to bottom.

 1. Resolve the path: which mount, which key, and by which other names it can be reached.
 2. Ask the policy, once, with all names: the placement, or a refusal.
 3. Learn the version, as fresh as the contract demands, and pin it.
 4. Attach to what the tiers hold of this version.
 5. A read whose pages are present copies them out of the mapping: no call, no lock.
 6. Missing pages are claimed; a page that is already on its way is waited for, never asked twice.
 7. A thread of the pool makes room in memory, opens what the SSD tier has sealed, and fetches the
    rest from the store, in ranges of up to 8 MiB, straight into the mapping, carrying the version.
 8. What arrived is published to readers and, where the placement allows, sealed on the SSD.
 9. Where memory may not hold it, or has no room, the bytes go straight to the reader.
10. A sequential reader's next pages are fetched ahead.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from headrace_cache.extents.extent_store import CachedObject, ExtentStore
from headrace_cache.extents.page import page_range
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Placement
from headrace_cache.policy.policy import Policy
from headrace_cache.policy.scope import Scope
from headrace_cache.policy.watch import PolicyWatch
from headrace_cache.reading.fetching import Fetching
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.prefetch import WIDEST_WINDOW_BYTES, ReadAhead
from headrace_cache.reading.single_flight import Flights
from headrace_namespace.entry import Entry
from headrace_namespace.errors import (
    HeadraceError,
    IsFolder,
    NotFound,
    PolicyDenied,
    StoreMissing,
    VersionGone,
)
from headrace_namespace.freshness import CHECK, Freshness
from headrace_namespace.metrics import BYTES_FETCHED, BYTES_SERVED, HITS, MISSES, Counters
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath, other_spelling
from headrace_namespace.resolution import Name, Resolved

#: A long read goes in pieces of at most this size.
PIECE_BYTES = 32 << 20
#: A link on the way may be switched between resolving and asking; more often is no accident.
MOST_RESOLVES = 4


@dataclass(frozen=True, slots=True)
class Governed:
    """A path with where it leads, what the policy says of it, and which policy that was."""

    resolved: Resolved
    placement: Placement
    policy: Policy

    @property
    def path(self) -> NamespacePath:
        """The path that was asked for."""
        return self.resolved.path


class Reader:
    """Opens, lists and reads, asking the policy first. Safe to use from many threads."""

    def __init__(
        self,
        *,
        namespace: Namespace,
        policy: PolicyWatch,
        store: ExtentStore,
        flights: Flights,
        launcher: Offload,
        counters: Counters,
        guarantee: Guarantee,
        read_ahead_bytes: int = WIDEST_WINDOW_BYTES,
    ) -> None:
        self._namespace = namespace
        self._policy = policy
        self._store = store
        self._launcher = launcher
        self._counters = counters
        self._guarantee = guarantee
        self._read_ahead_bytes = read_ahead_bytes
        self._fetching = Fetching(namespace, store, flights, counters)

    # Steps 1 to 4: from a path to a pinned version.

    def pin(self, path: NamespacePath, freshness: Freshness | None = None) -> Pinned:
        """The object at `path`, its version pinned. Raises NotFound, IsFolder, PolicyDenied."""
        governed, entry = self._found(path, freshness, reading=True)
        mount = governed.resolved.mount
        if entry.version is None or mount is None:
            raise IsFolder(f"{path} is a folder", path=path.text)
        names = governed.resolved.names
        placement, policy = governed.placement, governed.policy
        return Pinned(path, mount, entry.version, placement, names, policy)

    def judged(self, pinned: Pinned, *, anew: bool = False) -> Pinned:
        """`pinned` under the policy in force now: itself where that is the one that judged it.

        Its names of now count too, beside those of then. Raises PolicyDenied.
        """
        policy = self._policy.now
        if policy is pinned.policy and not anew:
            return pinned
        names = pinned.names
        with suppress(NotFound):  # it was unmounted; an open object goes on while its bytes last
            names += tuple(
                name for name in self._namespace.resolve(pinned.path).names if name not in names
            )
        placement = policy.decide(names)
        refusal = self._refusal_of(pinned.path, placement, reading=True)
        if refusal is not None:
            raise refusal
        return replace(pinned, placement=placement, names=names, policy=policy)

    def is_judged(self, pinned: Pinned) -> bool:
        """Whether the policy that judged it is the one in force; a look at the file may be due."""
        return self._policy.current() is pinned.policy

    def attach(self, pinned: Pinned) -> CachedObject:
        """What the tiers hold, and may hold, of this version under its placement; under the one of
        now, where the policy has just changed. Raises PolicyDenied then."""
        while True:
            held = self._attach(pinned)
            # First attached, then asked: a change that comes later finds it attached.
            now = self.judged(pinned)
            if now is pinned:
                return held
            pinned = now

    def _attach(self, pinned: Pinned) -> CachedObject:
        held, new = self._store.attach(pinned.version, pinned.placement, Scope.of(pinned.names))
        if new and not pinned.placement.allows_ssd:
            # A looser policy may have let it be sealed before; the purge has destroyed its key.
            self._launcher.run(lambda: self._store.forget_sealed(held))
        ttl = pinned.mount.ttl_seconds
        if ttl is not None:
            self._launcher.run(lambda: self._store.forget_older(held, ttl))
        return held

    @property
    def piece_bytes(self) -> int:
        """How much of a long read to bring at once: a few pieces must fit into memory together."""
        return min(PIECE_BYTES, self._store.shape.whole_bytes)

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is now. Raises NotFound, PolicyDenied."""
        return self._found(path, freshness, reading=False)[1]

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder; an object lists as itself. Raises NotFound, PolicyDenied."""
        try:
            yield from self._listed(path)
        except NotFound:
            other = other_spelling(path.text)
            if other is None:
                raise
            yield from self._listed(NamespacePath(other))

    def _listed(self, path: NamespacePath) -> Iterator[Entry]:
        """What policy lets show of a folder's children: of some, only the name."""
        governed = self._govern(path)
        self._require(governed, reading=False)
        withholds = self._policy.current().may_withhold
        for entry in self._namespace.list(governed.resolved):
            if (
                withholds
                and entry.version is not None
                and self._refusal(self._govern(entry.path), reading=False)
            ):
                yield replace(entry, version=None, withheld=True)
            else:
                yield entry

    def names_of(self, path: NamespacePath) -> tuple[Name, ...]:
        """All names of what may be at `path`, in both its Unicode spellings. Raises NotFound."""
        names = self._namespace.resolve(path).names
        other = other_spelling(path.text)
        if other is not None:  # the store may have it by that spelling
            names += self._namespace.resolve(NamespacePath(other)).names
        return names

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and by which rules."""
        names = self.names_of(path)
        placement, reasons = self._policy.current().explain(names)
        return PolicyExplanation(
            path,
            placement.persistence.word,
            placement.metadata.word,
            placement.guarantee.word,
            reasons,
        )

    # For the writer, so that the policy has one caller.

    def found(self, path: NamespacePath) -> tuple[Governed, Entry]:
        """What is at `path` by the store's own word, judged as for reading. Raises NotFound."""
        return self._found(path, CHECK, reading=True)

    def for_writing(self, path: NamespacePath) -> tuple[Governed, Entry | None]:
        """Where a write to `path` goes, and what is there now: asked of the store. Another Unicode
        spelling that is there is what is written. Raises PolicyDenied, NotFound (no mount)."""
        try:
            return self.found(path)
        except StoreMissing:
            raise
        except NotFound:
            return self.govern_for_writing(path), None

    def govern_for_writing(self, path: NamespacePath) -> Governed:
        """Where `path` leads, and its placement of now. Raises PolicyDenied, NotFound (no
        mount)."""
        governed = self._govern(path)
        self._require(governed, reading=True)
        return governed

    def require_as_strict(self, source: Pinned | Governed, target: Governed) -> None:
        """Bytes keep their placement wherever they are copied or moved. Raises PolicyDenied."""
        old, new = source.placement, target.placement
        if old.join(new) != new:
            path = target.resolved.path
            raise PolicyDenied(
                f"{path} would make what lies at {source.path} looser: from {old.words} to "
                f"{new.words}",
                path=path.text,
                hint=f"give {path.parent} the rule of the source too",
            )

    def require_name_as_strict(self, source: Governed, target: Governed) -> None:
        """A folder's name that must stay in memory is made nowhere else. Raises PolicyDenied."""
        if source.placement.metadata > target.placement.metadata:
            raise PolicyDenied(
                f"{target.path} would make the name of {source.path} looser: it is kept in memory "
                "alone",
                path=target.path.text,
                hint=f"give {target.path.parent} the rule of the source too",
            )

    def folder_as_strict(self, source: Governed, target: Governed) -> bool:
        """Whether whatever may lie in a folder would be held as strictly by its new name."""
        policy = self._policy.current()
        strictest = policy.strictest_below(source.resolved.names)
        loosest = policy.loosest_below(target.resolved.names)
        return strictest.join(loosest) == loosest

    def _govern(self, path: NamespacePath) -> Governed:
        resolved, policy = self._namespace.resolve(path), self._policy.current()
        return Governed(resolved, policy.decide(resolved.names), policy)

    def _require(self, governed: Governed, *, reading: bool) -> None:
        refusal = self._refusal(governed, reading=reading)
        if refusal is not None:
            raise refusal

    def _refusal(self, governed: Governed, *, reading: bool) -> PolicyDenied | None:
        """Why the policy refuses a read, or a mere look; None where it does not.

        It denies the object, or demands a guarantee that this process cannot give.
        """
        return self._refusal_of(governed.path, governed.placement, reading=reading)

    def _refusal_of(
        self, asked: NamespacePath, placement: Placement, *, reading: bool
    ) -> PolicyDenied | None:
        path = asked.text
        if placement.denies:
            return PolicyDenied(f"the policy denies {path}", path=path)
        restricted = reading or placement.metadata is MetadataKeeping.MEMORY_ONLY
        if restricted and placement.guarantee > self._guarantee:
            return PolicyDenied(
                f"{path} demands a host that is attested to {placement.guarantee.word}, and "
                f"this process is {self._guarantee.word}",
                path=path,
                hint='to allow it here, its rule must say guarantee = "unattested"',
            )
        return None

    def _found(
        self, path: NamespacePath, freshness: Freshness | None, *, reading: bool
    ) -> tuple[Governed, Entry]:
        """The entry at `path` as spelt, else as its other Unicode normal form spells it."""
        try:
            return self._governed_entry(path, freshness, reading=reading)
        except NotFound as error:
            other = other_spelling(path.text)
            if other is None:
                raise
            try:
                return self._governed_entry(NamespacePath(other), freshness, reading=reading)
            except NotFound:
                raise error from None

    def _governed_entry(
        self, path: NamespacePath, freshness: Freshness | None, *, reading: bool
    ) -> tuple[Governed, Entry]:
        """The policy judged the names of one object: be sure that the store found that very one."""
        for _ in range(MOST_RESOLVES):
            governed = self._govern(path)
            self._require(governed, reading=reading)
            entry = self._namespace.stat(governed.resolved, freshness, opening=reading)
            if entry.version is None or entry.version.ref == governed.resolved.ref:
                return governed, entry
        raise VersionGone(
            f"a link on the way to {path} keeps changing", path=path.text, hint="open it again"
        )

    # Steps 5 to 10: from a pinned version to bytes; `OpenObject` asks these.

    def extent_of(self, held: CachedObject, start: int) -> int:
        """The index of the extent that holds the byte at `start`."""
        return start // self._store.shape.extent_bytes(held.size)

    def spans(self, held: CachedObject, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The extents that hold a range: (index, from, to) each."""
        return self._store.shape.spans(start, stop, held.size)

    def pages(self, start: int, stop: int) -> range:
        """The pages that hold a range."""
        return page_range(start, stop, self._store.shape.page_bytes)

    def bring(
        self, pinned: Pinned, held: CachedObject, start: int, stop: int, *, missed: bool = True
    ) -> None:
        """Return when the range's pages arrived in memory, or could not be given room there.

        `missed`: whether a reader waits for them, and so has missed.
        """
        missing = self._store.missing(held, self.pages(start, stop))
        if not missing:
            return
        self._counters.add(MISSES, int(missed))
        # Claimed and launched on another thread: an interrupt of this one leaves no claim behind.
        for flight in self._launcher.run(lambda: self._fetching.launch(pinned, held, missing)):
            flight.wait()

    def bring_ahead(self, pinned: Pinned, held: CachedObject, start: int, stop: int) -> None:
        """Fetch a range that nobody waits for yet; nothing happens where the pool is busy."""
        missing = self._store.missing(held, self.pages(start, stop)) if start < stop else ()
        if not missing:
            return
        with suppress(NotFound):  # unmounted since: who reads that far will be told
            if self._namespace.fetchers(pinned.mount).has_room():
                self._launcher.submit(functools.partial(self._launch_ahead, pinned, held, missing))

    def _launch_ahead(self, pinned: Pinned, held: CachedObject, missing: Sequence[int]) -> None:
        with suppress(HeadraceError):  # unmounted or closed since
            self._fetching.launch(pinned, held, missing)

    def read_past(self, pinned: Pinned, start: int, target: memoryview) -> None:
        """Read from the store straight to the reader, keeping nothing."""
        # A view of its own: an interrupted caller may release its one while bytes still arrive.
        own = memoryview(target)
        self._namespace.fetchers(pinned.mount).run(
            lambda: self._namespace.read_into(pinned.mount, pinned.version, start, own)
        )
        self._counters.add(MISSES)
        self._counters.add(BYTES_FETCHED, len(target))

    def count(self, hits: int, served: int) -> None:
        """An open object's own count of reads that hit and bytes that it gave."""
        self._counters.add(HITS, hits)
        self._counters.add(BYTES_SERVED, served)

    def read_ahead(self) -> ReadAhead:
        """The judge of one open object's pattern."""
        return ReadAhead(self._read_ahead_bytes)
