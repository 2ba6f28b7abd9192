"""The freshness contract: when an answer of a store stands, and when the store is asked.

An answer young enough stands; a listing of the folder may stand in for one (`listings.py`); else
the store says, and what it says is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from headrace_namespace.backends.protocol import Folder
from headrace_namespace.clock import Clock
from headrace_namespace.errors import HeadraceError
from headrace_namespace.freshness import PINNED, Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.metadata.listings import VALID_SECONDS, Listings
from headrace_namespace.metadata.own_writes import OwnWrites
from headrace_namespace.metadata.protocol import MetadataStore, Observation
from headrace_namespace.mount_table import Mount
from headrace_namespace.resolution import Resolved
from headrace_namespace.standing import Standing
from headrace_namespace.tree import MountedStore, Trees

#: How long an open may rely on where the links on its way led: as long as a mount may go unseen.
LINKS_SECONDS = 1.0


class Observing:
    """What is at a path, as fresh as it is asked for. Safe to use from many threads."""

    def __init__(
        self,
        trees: Trees,
        metadata: MetadataStore,
        listings: Listings,
        clock: Clock,
        writes: OwnWrites,
        on_changed: Callable[[], None] | None = None,
    ) -> None:
        """`on_changed` is called, and must return at once, where an object is seen to be another
        version than the one that was remembered."""
        self._on_changed = on_changed
        self._trees = trees
        self._metadata = metadata
        self._listings = listings
        self._clock = clock
        self._writes = writes

    def is_fresh(
        self, resolved: Resolved, version: ObjectVersion, freshness: Freshness | None = None
    ) -> bool:
        """Whether an open may pin `version`, the answer to an earlier `stat`, as it is: by
        `freshness` (else the mount's own) it is young enough, or under `check` a cheap look shows
        it still. `resolved` is of the mounts of now, and its last name is no link.
        """
        mount, ref = resolved.mount, resolved.ref
        if mount is None or ref is None:
            return False
        max_age = (freshness or mount.freshness).max_age_seconds
        if max_age > 0:
            known = self.known(ref, max_age)
            if known is None or known.version is not version:
                return False
        # Without the retries: what goes wrong here is asked again in full.
        store = self._trees.tree.store_of(mount).observed
        if store.stat_is_cheap:  # else the path may be a link by now, and leads to another object
            return store.shows(resolved.key, version)
        return max_age > 0

    def standing(
        self, resolved: Resolved, version: ObjectVersion, looked_at: float
    ) -> Standing | None:
        """For how long an open may pin `version` again by the mount's own freshness, without asking
        here; None where it may not. The links on its way were looked at at `looked_at`."""
        mount, ref, now = resolved.mount, resolved.ref, self._clock.monotonic()
        if mount is None or ref is None:
            return None
        store, seconds = self._trees.tree.store_of(mount), math.inf
        max_age = mount.freshness.max_age_seconds
        if max_age > 0:
            known = self.known(ref, max_age)
            if known is None or known.version is not version:
                return None
            seconds = max_age - (now - known.asked_at)
        if not store.backend.stat_is_cheap:
            return Standing(seconds) if max_age > 0 else None
        file = store.backend.shown_by(resolved.key)
        return Standing(min(seconds, looked_at + LINKS_SECONDS - now), file) if file else None

    def standing_by_listing(self, resolved: Resolved) -> Standing | None:
        """For how long a listing would validate one open of what is there, under `check`; None
        where the store would be asked."""
        mount, ref = resolved.mount, resolved.ref
        if mount is None or ref is None or mount.freshness.max_age_seconds > 0:
            return None
        folder, _, child = str(ref).rpartition("/")
        now = self._clock.monotonic()
        listed_at = self._listings.listed_at(folder, child, now - VALID_SECONDS)
        return None if listed_at is None else Standing(listed_at + VALID_SECONDS - now, once=True)

    def asks_nothing(self, resolved: Resolved) -> bool:
        """Whether an open of what is there would ask no remote store."""
        mount, ref = resolved.mount, resolved.ref
        if mount is None or ref is None:
            return False
        return (
            self._trees.tree.store_of(mount).backend.stat_is_cheap
            or self.known(ref, mount.freshness.max_age_seconds) is not None
            or self.standing_by_listing(resolved) is not None
        )

    def observe(
        self, resolved: Resolved, mount: Mount, freshness: Freshness | None, *, opening: bool
    ) -> ObjectVersion | Folder | None:
        """The freshness contract: an answer young enough, a listing that validates, or the store.

        Who asks for a freshness of their own gets exactly that: no listing stands in then.
        """
        assert resolved.ref is not None  # it has a mount
        store, ref = self._trees.tree.store_of(mount), resolved.ref
        max_age = (freshness or mount.freshness).max_age_seconds
        known = self.known(ref, max_age)
        if known is not None:
            return known.version
        trusted = min(VALID_SECONDS, max_age or VALID_SECONDS) if freshness is None else None
        found: Observation | Folder | None = None
        for _ in range(2):  # once more where a write of our own has overtaken the answer
            mark = self._writes.mark(str(ref))
            if store.backend.stat_is_cheap:
                found = self._ask(resolved, store)
            else:
                found = store.looks.run(
                    lambda: self._ask_or_trust(resolved, store, trusted, opening)
                )
            with self._writes.lock:
                if self._writes.mark(str(ref)) == mark:
                    if isinstance(found, Observation):
                        self.remember(mount, found)
                        if math.isinf(max_age):  # another's answer may have been the first
                            found = self.known(ref, max_age) or found
                    else:
                        self._metadata.forget(ref)
                    break
        return found.version if isinstance(found, Observation) else found

    def known(self, ref: ObjectRef, max_age: float) -> Observation | None:
        """What the store answered no longer ago than `max_age`."""
        known = self._metadata.get(ref) if max_age > 0 else None
        if known is None or self._clock.monotonic() - known.asked_at > max_age:
            return None
        return known

    def _ask_or_trust(
        self, resolved: Resolved, store: MountedStore, trusted: float | None, opening: bool
    ) -> Observation | Folder | None:
        """What a listing of the folder shows, where one of the last `trusted` seconds may stand in;
        else what the store says."""
        name, now = str(resolved.ref), self._clock.monotonic()
        mark = self._writes.mark(name)
        folder, _, child = name.rpartition("/")
        if trusted is not None:
            if not opening and self._listings.shows_folder(name, now - trusted):
                return Folder()
            listed = self._listings.take(folder, child, now - trusted, opening=opening)
            if listed is not None:
                return listed
        found: Observation | Folder | None = None
        try:
            found = self._ask(resolved, store)
        finally:
            self._listings.prove(
                folder, child, found.version if isinstance(found, Observation) else None
            )
        with self._writes.lock:
            if isinstance(found, Folder) and self._writes.mark(name) == mark:
                self._listings.seen(name, now)
        return found

    def _ask(self, resolved: Resolved, store: MountedStore) -> Observation | Folder | None:
        now = self._clock.monotonic()  # before it is asked: an answer must not pass for younger
        try:
            found = store.backend.stat(resolved.key)
        except HeadraceError as error:
            raise error.at(path=resolved.path.text, store=store.backend.name) from error.__cause__
        return Observation(found, now) if isinstance(found, ObjectVersion) else found

    def remember(self, mount: Mount, observation: Observation) -> None:
        """Keep the answer that was asked for last; a pinned mount keeps the first."""
        known = self._metadata.get(observation.version.ref)
        pinned = mount.freshness == PINNED
        if known is None or (not pinned and known.asked_at <= observation.asked_at):
            self._metadata.put(observation)
            another = known is not None and known.version != observation.version
            if another and self._on_changed is not None:
                self._on_changed()
