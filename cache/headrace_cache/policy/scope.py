"""By which folders an object is reached: what a sealed object is remembered by, so that a rule that
comes later finds what it covers, without any object's name having been written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_namespace.resolution import Name


@dataclass(frozen=True, slots=True)
class Scope:
    """The folders of all names of an object: each a `Name` whose path is the folder.

    All objects of one folder share one scope, unless links or a second mount give some of them more
    names. Equal scopes compare equal, whatever the order of the names.
    """

    folders: frozenset[Name]

    @classmethod
    def of(cls, names: Sequence[Name]) -> Scope:
        """The scope of an object with these names."""
        return cls(frozenset(Name(name.path.parent, name.mount, name.tags) for name in names))
