"""Who asks: the names by which policy may admit a caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, by the users and groups that he is. No names at all: nobody knows who he is."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


#: Who shows nothing by which he could be known.
ANONYMOUS = Principal()
