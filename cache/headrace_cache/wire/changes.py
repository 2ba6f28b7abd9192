"""The table of messages for clients of other hosts: those of `messages.py` that need no session,
and what such a client has the node do that a local one does by itself.

A request is the body of one `POST` and its answer that of the response (`routes.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from headrace_cache.wire import messages as m
from headrace_cache.wire.told import ToldVersion
from headrace_cache.wire.values import error_of, path_of, raw, told_error, told_path
from headrace_namespace.errors import HeadraceError, StoreAnswerWrong
from headrace_namespace.path import NamespacePath


class _Message(msgspec.Struct, array_like=True):
    """One row of the table."""


class OpenOne(_Message, tag=68):
    """-> OpenedOne."""

    path: bytes
    max_age: float | None


class WarmRange(_Message, tag=60):
    """Bring a range of this version into the cache: -> Number, the bytes fetched."""

    path: bytes
    version: str
    start: int
    stop: int


class MayWrite(_Message, tag=61):
    """Whether a write could begin now; nothing is written: -> Writable."""

    path: bytes
    exclusive: bool
    if_version: str | None
    append: bool


class Delete(_Message, tag=62):
    """-> Wrong."""

    paths: list[bytes]


class Rename(_Message, tag=63):
    """-> Number, 1 where it was done."""

    source: bytes
    target: bytes


class Copy(_Message, tag=64):
    """-> Made."""

    source: bytes
    target: bytes
    exclusive: bool


class MakeFolder(_Message, tag=65):
    """-> Done."""

    path: bytes
    exist_ok: bool
    like: bytes | None


class RemoveFolder(_Message, tag=66):
    """-> Done."""

    path: bytes


class LiesIn(_Message, tag=67):
    """-> Number, 1 where it does."""

    path: bytes
    folder: bytes


class OpenedOne(_Message, tag=83):
    """An object's version, which reads name from now on."""

    path: bytes
    version: ToldVersion
    restricted: bool


class Writable(_Message, tag=80):
    """A write can begin; of an append, what it begins with: its size, and its version's digest
    (None where nothing is there)."""

    size: int
    version: str | None


class Made(_Message, tag=81):
    """The version that was written."""

    version: ToldVersion


class Failure(_Message):
    """What went wrong with one path."""

    path: bytes
    error: m.Failed


class Wrong(_Message, tag=82):
    """What went wrong, by path."""

    failures: list[Failure]


#: What only looks, or comes to the same when it is asked twice.
Repeatable: TypeAlias = (
    m.Stat
    | m.List
    | OpenOne
    | m.Explain
    | m.Drop
    | m.Pin
    | m.Unpin
    | m.AskWhy
    | m.AskMounts
    | m.AskStatus
    | m.AskTotals
    | m.Flush
    | WarmRange
    | MayWrite
    | LiesIn
)
Changing: TypeAlias = Delete | Rename | Copy | MakeFolder | RemoveFolder
Asked: TypeAlias = Repeatable | Changing
Answered: TypeAlias = (
    m.Failed
    | m.Done
    | m.Number
    | m.Found
    | m.Listed
    | OpenedOne
    | m.Explained
    | m.ToldWhy
    | m.Mounts
    | m.ToldStatus
    | m.ToldTotals
    | Writable
    | Made
    | Wrong
)

#: Bytes of a request's message; a client cuts a longer list of paths into several.
MOST_ASKED_BYTES = 1 << 20
#: Before each part of a listing: its length.
LENGTH = struct.Struct(">I")
#: A part of a listing is some 64 KiB; what claims to be more is none.
MOST_PART_BYTES = 4 << 20

_encoder = msgspec.msgpack.Encoder()
_asked: msgspec.msgpack.Decoder[Asked] = msgspec.msgpack.Decoder(Asked)
_answered: msgspec.msgpack.Decoder[Answered] = msgspec.msgpack.Decoder(Answered)


def encode(message: Asked | Answered) -> bytes:
    """The message's bytes."""
    return _encoder.encode(message)


def framed(message: Answered) -> bytes:
    """A part of a listing, its length first."""
    encoded = encode(message)
    return LENGTH.pack(len(encoded)) + encoded


def asked_of(data: bytes | bytearray | memoryview) -> Asked:
    """A client's request. Raises ValueError for what is none."""
    return _asked.decode(data)


def answered_of(data: bytes | bytearray | memoryview) -> Answered:
    """A node's answer. Raises StoreAnswerWrong for what is none."""
    try:
        return _answered.decode(data)
    except ValueError as error:  # msgspec's own errors are of these
        raise StoreAnswerWrong(f"the node answers what this release cannot read: {error}") from None


def told_wrong(wrong: Mapping[NamespacePath, HeadraceError]) -> Wrong:
    """What went wrong, by path."""
    return Wrong([Failure(told_path(path), told_error(error)) for path, error in wrong.items()])


def wrong_of(told: Wrong) -> dict[NamespacePath, HeadraceError]:
    """What went wrong, again."""
    return {path_of(each.path): error_of(each.error) for each in told.failures}


def deletions(paths: Sequence[NamespacePath]) -> Iterator[Delete]:
    """Requests that delete these, each as long as one may be."""
    part: list[bytes] = []
    taken = 0
    for path in paths:
        told = raw(path.text)
        if part and taken + len(told) > MOST_ASKED_BYTES // 2:
            yield Delete(part)
            part, taken = [], 0
        part.append(told)
        taken += len(told) + 8
    if part:
        yield Delete(part)
