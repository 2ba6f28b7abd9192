"""By which folders an object is reached, and in which it lies: what a sealed object is remembered
by, so that a rule or a mount that comes later finds what it covers, without any object's name
having been written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headrace_namespace.resolution import Location, Name


@dataclass(frozen=True, slots=True)
class Scope:
    """The folders of all names of an object, each a `Name` whose path is the folder, and the
    folders of the locations where it lies in its store.

    All objects of one folder share one scope, unless links or a second mount give some of them more
    names. Equal scopes compare equal, whatever the order of the names.
    """

    folders: frozenset[Name]
    locations: frozenset[Location] = frozenset()

    @classmethod
    def of(cls, names: Iterable[Name], locations: Iterable[Location] = ()) -> Scope:
        """The scope of an object with these names, at these locations."""
        return cls(
            frozenset(Name(name.path.parent, name.mount, name.tags) for name in names),
            frozenset(location.folder for location in locations),
        )

    @property
    def parts(self) -> frozenset[Name | Location]:
        """Its folders and locations together."""
        return self.folders | self.locations

    def within(self, other: Scope) -> bool:
        """Whether `other` has all the parts that this has."""
        return self.folders <= other.folders and self.locations <= other.locations

    def joined(self, other: Scope) -> Scope:
        """The scope of an object that was found under both."""
        if other.within(self):
            return self
        return Scope(self.folders | other.folders, self.locations | other.locations)
