"""The rows of the table that stand for values: what several messages tell alike.

What may hold no UTF-8 (a path, an object's key) goes as bytes, by `surrogateescape`.
"""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, array_like=True):
    """One row of the table."""


class ToldVersion(Message):
    """An `ObjectVersion`."""

    store: bytes
    key: bytes
    tag: str
    size: int
    strong: bool
    mtime: float | None
    version_id: str | None


class ToldEntry(Message):
    """An `Entry`."""

    path: bytes
    mount: bytes | None
    version: ToldVersion | None
    withheld: bool
    link: bool


class ToldMount(Message):
    """A `Mount`."""

    path: bytes
    url: str
    max_age: float
    tags: list[str]
    read_only: bool
    ttl_seconds: float | None
    mounting: str
    source: str


class ToldStanding(Message):
    """A `Standing`: how the client may open the object again without asking."""

    seconds: float
    file: bytes | None
    once: bool


class ToldOpen(Message):
    """An open object: its handle, and what memory holds of its beginning. It is lent in extents of
    `each` bytes. No `standing`: each open asks."""

    handle: int
    path: bytes
    version: ToldVersion
    restricted: bool
    each: int
    loans: list[ToldLoan]
    standing: ToldStanding | None


class ToldLoan(Message):
    """Memory lent: bytes `start` to `stop` of the object lie in the extent of this number from
    `start + shift` on, all of them where it is `complete`, else those asked for. `new`: its
    descriptor comes with the message, in the order of these."""

    number: int
    start: int
    stop: int
    shift: int
    complete: bool
    new: bool
