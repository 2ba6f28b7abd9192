"""Objects kept open between the ranges of their readers, so that the next one asks no store.

For the loop's thread alone: nothing here waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from headrace_cache.node.http.bounds import MOST_OPEN, OPEN_SECONDS
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.wire.routes import etag_of
from headrace_namespace.path import NamespacePath


class _Key(NamedTuple):
    client: str
    path: str
    etag: str


class Held:
    """An object kept open, and how many requests read it now."""

    __slots__ = (
        "etag",
        "gone",
        "lines",
        "lines_restricted",
        "object",
        "readers",
        "since",
    )

    def __init__(self, opened: OpenObject, etag: str, now: float) -> None:
        self.object = opened
        self.etag = etag
        self.readers = 0
        self.since = now
        self.gone = False
        #: What answers tell of it, once one has, and whether it was restricted then (`facts.py`).
        self.lines: bytes | None = None
        self.lines_restricted = False


class OpenObjects:
    """At most `MOST_OPEN` of them; who was read longest ago goes first, by `end_old` also after
    `OPEN_SECONDS`.

    An object belongs to the client for whom the policy was asked when it was opened.
    """

    def __init__(self, monotonic: Callable[[], float], most: int = MOST_OPEN) -> None:
        self._monotonic = monotonic
        self._most = most
        self._held: OrderedDict[_Key, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, client: str, path: NamespacePath, etag: str) -> Held | None:
        """The object, to be given back; None where it is not held."""
        key = _Key(client, path.text, etag)
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
            held.readers += 1
        return held

    def add(self, client: str, path: NamespacePath, opened: OpenObject) -> Held:
        """Hold an object that was just opened, or what is held of that version already, to be
        given back."""
        etag = etag_of(opened.version)
        known = self.take(client, path, etag)
        if known is not None:
            opened.close()
            return known
        now = self._monotonic()
        held = self._held[_Key(client, path.text, etag)] = Held(opened, etag, now)
        held.readers = 1
        while len(self._held) > self._most:
            self._drop(next(iter(self._held)))
        return held

    def end_old(self) -> None:
        """Let go of those that nobody has read for `OPEN_SECONDS`."""
        now = self._monotonic()
        for key, held in list(self._held.items()):
            if not held.readers and now - held.since > OPEN_SECONDS:
                self._drop(key)

    def give_back(self, held: Held) -> None:
        """A request has read it."""
        held.readers -= 1
        held.object.tell_counts()  # who looks at the node is not to wait for its last reader
        held.since = self._monotonic()
        if held.gone and not held.readers:
            held.object.close()

    def close(self) -> None:
        """Let go of all; who reads still, reads on."""
        for key in list(self._held):
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        held = self._held.pop(key)
        held.gone = True
        if not held.readers:
            held.object.close()
