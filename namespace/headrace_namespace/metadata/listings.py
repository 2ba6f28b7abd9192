"""Listings that stand in for stats: opening a data set of 1,000 files costs one LIST, not 1,000 HEADs.

A listing brings the version of every child. For a few seconds it may validate the opens of those
children under the freshness contract `check`, by three rules (decisions/0003-listings-validate.md):
it must first prove itself, the first child being asked of the store and found as listed; it
validates each child once; and it is never older than `VALID_SECONDS`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from headrace_namespace.identity import ObjectVersion

#: Long enough to open a thousand warm files, short enough to be named as the contract's edge.
VALID_SECONDS = 5.0

#: About 0.4 KB a child: 40 MB when full, over all folders together.
MOST_CHILDREN = 100_000


@dataclass(slots=True)
class _Listing:
    listed_at: float
    children: dict[str, ObjectVersion] = field(default_factory=dict[str, ObjectVersion])
    proven: bool = False


class Listings:
    """The latest listings by folder; folders and children are the store's own full names."""

    def __init__(self, most_children: int = MOST_CHILDREN) -> None:
        self._most_children = most_children
        self._lock = threading.Lock()
        self._folders: OrderedDict[str, _Listing] = OrderedDict()
        self._held = 0

    def begin(self, folder: str, now: float) -> None:
        """A listing of `folder` starts now; what an earlier one said is forgotten."""
        with self._lock:
            self._drop(folder)
            self._folders[folder] = _Listing(now)

    def add(self, folder: str, children: dict[str, ObjectVersion]) -> None:
        """A part of the listing begun last brought these children."""
        with self._lock:
            listing = self._folders.get(folder)
            if listing is None:
                return
            before = len(listing.children)
            listing.children.update(children)
            self._held += len(listing.children) - before
            while self._held > self._most_children and self._folders:
                self._drop(next(iter(self._folders)))

    def take(self, folder: str, child: str, now: float) -> ObjectVersion | None:
        """The version by which a proven listing validates an open of `child`, once; else None."""
        if folder not in self._folders:  # the common case, without the lock
            return None
        with self._lock:
            listing = self._folders.get(folder)
            if listing is None or not listing.proven:
                return None
            if now - listing.listed_at > VALID_SECONDS:
                self._drop(folder)
                return None
            version = listing.children.pop(child, None)
            if version is not None:
                self._held -= 1
            return version

    def prove(self, folder: str, child: str, found: ObjectVersion | None) -> None:
        """The store was asked for `child` and answered `found`: the listing stands or falls by it."""
        if folder not in self._folders:
            return
        with self._lock:
            listing = self._folders.get(folder)
            if listing is None:
                return
            listed = listing.children.pop(child, None)
            if listed is not None:
                self._held -= 1
                if found == listed:
                    listing.proven = True
                else:
                    self._drop(folder)

    def _drop(self, folder: str) -> None:
        listing = self._folders.pop(folder, None)
        if listing is not None:
            self._held -= len(listing.children)
