"""Where the mounts lead: which of them reach a place of a store.

A remote store's root never moves. That of a local folder does when a link on its way is switched,
so it is looked at again, once in `ROOTS_SECONDS` for all mounts together: a look takes some 30
microseconds for each, and the tree may have a thousand.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace_namespace.backends.protocol import Backend
from headrace_namespace.clock import Clock
from headrace_namespace.identity import ObjectRef
from headrace_namespace.mount_table import Mount
from headrace_namespace.resolution import Location

#: How long a mount that leads elsewhere since may go unseen: as long as one that was just made.
ROOTS_SECONDS = 1.0

_SLASHES = re.compile("/")


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look showed, when it began by the monotonic clock (inf where no mount can move), and
    until when it stands; never changed."""

    began: float
    until: float
    roots: Mapping[Mount, ObjectRef]
    #: By space and folder, without a slash at its end: the mounts of it, by their places in order.
    at: Mapping[tuple[str, str], Sequence[tuple[int, Mount]]]


class Roots:
    """The roots of mounts. Safe to use from many threads: who looks at once sees the same."""

    def __init__(self, backends: Mapping[Mount, Backend], clock: Clock) -> None:
        """Touches no store until it is asked."""
        self._backends = backends
        self._clock = clock
        self._last: _Look | None = None

    def of(self, mount: Mount) -> ObjectRef:
        """What the mount's own root is in its store."""
        return self._now().roots[mount]

    def looked_at(self) -> float:
        """When the look began that answers now; inf where no mount can come to lead elsewhere."""
        return self._now().began

    def reaching(self, location: Location) -> list[tuple[Mount, str]]:
        """The mounts in whose folder `location` lies, and its key below each, "" for the root."""
        look, space, key = self._now(), location.space, location.key
        folders = {"", key, *(key[: slash.start()] for slash in _SLASHES.finditer(key))}
        there = [each for folder in folders for each in look.at.get((space, folder), ())]
        found: list[tuple[Mount, str]] = []
        for _, mount in sorted(there, key=operator.itemgetter(0)):
            below = below_root(key, look.roots[mount].key)
            if below is not None:
                found.append((mount, below))
        return found

    def _now(self) -> _Look:
        last, now = self._last, self._clock.monotonic()
        if last is None or now >= last.until:
            self._last = last = self._looked(last, now)
        return last

    def _looked(self, last: _Look | None, now: float) -> _Look:
        roots: dict[Mount, ObjectRef] = {}
        at: dict[tuple[str, str], list[tuple[int, Mount]]] = {}
        moves = False
        for place, (mount, backend) in enumerate(self._backends.items()):
            if last is None or backend.stat_is_cheap:
                roots[mount] = backend.ref("")
            else:
                roots[mount] = last.roots[mount]
            moves = moves or backend.stat_is_cheap
            folder = roots[mount].key.rstrip("/")
            at.setdefault((backend.space, folder), []).append((place, mount))
        moment = now if moves else math.inf
        return _Look(moment, moment + ROOTS_SECONDS, roots, at)


def below_root(key: str, root: str) -> str | None:
    """What follows the folder `root` in `key`; None where it does not lie in it."""
    folder = root.rstrip("/")
    if not folder:
        return key.lstrip("/")
    if key == folder:
        return ""
    return key[len(folder) + 1 :] if key.startswith(folder + "/") else None
