"""The freshness contract (docs/freshness.md), as what an open may give: never more than it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.clock import ManualClock
from tests.model.truth import Truth

#: A listing validates its children's opens for so long.
LISTING_SECONDS = 5.0


@dataclass(slots=True)
class Listed:
    """What a listing of one folder showed, and whose opens it has validated already."""

    at: float
    children: Mapping[str, ObjectVersion]
    used: set[str] = field(default_factory=set[str])


class Contract:
    """What one process may take for the truth: it begins anew with each process."""

    def __init__(self, truth: Truth, clock: ManualClock) -> None:
        self._truth = truth
        self._clock = clock
        #: Before this change nothing was asked by this process.
        self._begun = truth.changes
        #: How many changes there were when this step began: an answer may be from its beginning.
        self.step_began = truth.changes
        #: The process's own last write of an object, as a count of changes.
        self._written: dict[ObjectRef, int] = {}
        self._listed: dict[ObjectRef, Listed] = {}
        #: When a folder was last seen to be one.
        self._folders: dict[ObjectRef, float] = {}
        #: For mounts that are pinned: the first answer, and how many changes there were then.
        self._first: dict[ObjectRef, tuple[ObjectVersion, int]] = {}

    def listed(self, folder: ObjectRef, children: Mapping[str, ObjectVersion]) -> None:
        """A listing of the folder came to its end."""
        self._listed[folder] = Listed(self._clock.monotonic(), children)
        self._folders[folder] = self._clock.monotonic()

    def wrote(self, ref: ObjectRef) -> None:
        """This process has written the object: no earlier answer stands for it, and no listing of
        its folder for anything."""
        self._written[ref] = self._truth.changes
        self._first.pop(ref, None)
        self._forget(ref)
        self._forget(_folder_of(ref))

    def took_away(self, ref: ObjectRef) -> None:
        """This process has deleted the object, made or removed the folder: the folders above may
        have come or gone with it."""
        self.wrote(ref)
        while ref.key:
            ref = _folder_of(ref)
            self._forget(ref)

    def _forget(self, folder: ObjectRef) -> None:
        self._listed.pop(folder, None)
        self._folders.pop(folder, None)

    def saw_folder(self, ref: ObjectRef) -> None:
        """The store said that this is a folder."""
        self._folders[ref] = self._clock.monotonic()

    def any_listing(self, ref: ObjectRef) -> bool:
        """Whether a listing may still stand in for asking for the object."""
        listed = self._listed.get(_folder_of(ref))
        return listed is not None and self._clock.monotonic() - listed.at <= LISTING_SECONDS

    def may_be_folder(self, ref: ObjectRef) -> bool:
        """Whether a look may still take it for a folder."""
        seen = self._folders.get(ref)
        return seen is not None and self._clock.monotonic() - seen <= LISTING_SECONDS

    def looked(self, ref: ObjectRef, version: ObjectVersion, *, pinned: bool) -> None:
        """A look at a pinned mount gave this version."""
        if pinned:
            self._first.setdefault(ref, (version, self._truth.changes))

    def may_give(
        self,
        version: ObjectVersion,
        ref: ObjectRef,
        mount: Freshness,
        asked: Freshness | None,
        *,
        opening: bool,
    ) -> bool:
        """Whether an open, or a look, may give this version now; an open uses a listing up."""
        age = (asked or mount).max_age_seconds
        if asked is None and math.isinf(age) and ref in self._first:
            first, since = self._first[ref]
            if not self._truth.was_absent(ref, since):
                return version == first
            del self._first[ref]  # who saw that nothing was there began anew
        since = max(self.step_began, self._written.get(ref, 0))
        if any(era.version == version for era in self._truth.there_since(ref, since)):
            return True
        if self._was_there(version, ref, age):
            return True
        return (
            asked is None
            and age < LISTING_SECONDS
            and self._listing_validates(version, ref, age, opening=opening)
        )

    def _was_there(self, version: ObjectVersion, ref: ObjectRef, age: float) -> bool:
        """Whether the store could have named it no longer ago than `age`."""
        if age == 0:
            return False
        since = max(self._written.get(ref, 0), self._begun)
        return any(
            era.version == version
            and era.ended is not None
            and era.ended > since
            and era.ended_at is not None
            and era.ended_at >= self._clock.monotonic() - age
            for era in self._truth.eras(ref)
        )

    def _listing_validates(
        self, version: ObjectVersion, ref: ObjectRef, age: float, *, opening: bool
    ) -> bool:
        folder, _, name = ref.key.rpartition("/")
        listed = self._listed.get(ObjectRef(ref.store, folder))
        if listed is None or listed.children.get(name) != version or name in listed.used:
            return False
        most = LISTING_SECONDS if age == 0 else age
        if self._clock.monotonic() - listed.at > most:
            return False
        if opening:
            listed.used.add(name)
        return True


def _folder_of(ref: ObjectRef) -> ObjectRef:
    return ObjectRef(ref.store, ref.key.rpartition("/")[0])
