"""Listings that stand in for stats: a data set of 1,000 files costs one LIST, not 1,000 HEADs.

A listing brings the version of every child. For a few seconds it may validate the opens of those
children under the freshness contract `check`, by three rules (decisions/0003-listings-validate.md):
it must first prove itself, the first child being asked of the store and found as listed; it
validates each child once; and it is never older than `VALID_SECONDS`, nor than the mount's own age.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from headrace_namespace.identity import ObjectVersion
from headrace_namespace.metadata.protocol import Observation

#: Long enough to open a thousand warm files, short enough to be named as the contract's edge.
VALID_SECONDS = 5.0

#: About 0.4 KB a child (a folder counts as one): 40 MB when full, over all folders together.
MOST_CHILDREN = 100_000


#: How long an asker waits for another's proof before it asks the store itself.
PROOF_SECONDS = 5.0


@dataclass(slots=True)
class _Listing:
    listed_at: float
    children: dict[str, ObjectVersion] = field(default_factory=dict[str, ObjectVersion])
    proving: bool = False
    proven: bool = False


class Listings:
    """The latest listings by folder; folders and children are the store's own full names."""

    def __init__(self, most_children: int = MOST_CHILDREN) -> None:
        self._most_children = most_children
        self._changed = threading.Condition()
        self._folders: OrderedDict[str, _Listing] = OrderedDict()
        self._held = 0

    def begin(self, folder: str, now: float) -> None:
        """A listing of `folder` starts now; what an earlier one said is forgotten."""
        with self._changed:
            self._drop(folder)
            self._make_room(1)
            self._folders[folder] = _Listing(now)
            self._held += 1

    def add(self, folder: str, listed_at: float, children: dict[str, ObjectVersion]) -> None:
        """A part of the listing begun at `listed_at` brought these children.

        Nothing comes of it where another has begun since: what is older must not pass for younger.
        """
        with self._changed:
            listing = self._folders.get(folder)
            if listing is None or listing.listed_at != listed_at:
                return
            # One by one: the difference of two views would walk through all that is held.
            more = sum(name not in listing.children for name in children)
            self._make_room(more)
            if folder in self._folders:  # else it is too large itself
                listing.children.update(children)
                self._held += more

    def seen(self, folder: str, now: float) -> None:
        """The store said that `folder` is one; nothing is known of its children."""
        if folder not in self._folders:
            self.begin(folder, now)

    def shows_folder(self, folder: str, since: float) -> bool:
        """Whether `folder` was seen or listed no earlier than `since`, so that it is one."""
        listing = self._folders.get(folder)
        return listing is not None and listing.listed_at >= since

    def listed_at(self, folder: str, child: str, since: float) -> float | None:
        """When the listing began that would validate an open of `child` now, no earlier than
        `since`; None where the store would be asked."""
        listing = self._folders.get(folder)
        if listing is None or not listing.proven or listing.listed_at < since:
            return None
        return listing.listed_at if child in listing.children else None

    def take(self, folder: str, child: str, since: float, *, opening: bool) -> Observation | None:
        """The version by which a proven listing, begun no earlier than `since`, validates `child`;
        None where the store must say.

        An open uses the validation up, a mere look does not. Whoever is told None asks the store
        and then calls `prove`; others who ask meanwhile wait for that.
        """
        if folder not in self._folders:  # the common case, without the lock
            return None
        with self._changed:
            while True:
                listing = self._folders.get(folder)
                if listing is None or child not in listing.children:
                    return None
                if listing.listed_at < since:
                    self._drop(folder)
                    return None
                if listing.proven:
                    if not opening:
                        return Observation(listing.children[child], listing.listed_at)
                    self._held -= 1
                    return Observation(listing.children.pop(child), listing.listed_at)
                if not listing.proving:
                    listing.proving = True
                    return None
                if not self._changed.wait(PROOF_SECONDS):
                    return None

    def prove(self, folder: str, child: str, found: ObjectVersion | None) -> None:
        """The store was asked for `child` and found this (None: nothing, or it could not say): the
        listing stands or falls by it."""
        if folder not in self._folders:
            return
        with self._changed:
            listing = self._folders.get(folder)
            if listing is None or child not in listing.children:
                return
            if found == listing.children[child]:
                listing.proven = True
            else:
                self._drop(folder)
            self._changed.notify_all()

    def forget(self, folder: str) -> None:
        """Something in `folder` was written: what is listed of it no longer stands for anything."""
        if folder in self._folders:
            with self._changed:
                self._drop(folder)

    def forget_below(self, folder: str) -> None:
        """All below `folder` was moved: no listing of its folders stands for anything."""
        with self._changed:
            for name in [name for name in self._folders if name.startswith(folder + "/")]:
                self._drop(name)

    def _make_room(self, more: int) -> None:
        """Let the oldest go, so that with `more` to come there are never too many."""
        while self._held + more > self._most_children and self._folders:
            self._drop(next(iter(self._folders)))

    def _drop(self, folder: str) -> None:
        listing = self._folders.pop(folder, None)
        if listing is not None:
            self._held -= len(listing.children) + 1
            self._changed.notify_all()  # who waits for its proof would wait in vain
