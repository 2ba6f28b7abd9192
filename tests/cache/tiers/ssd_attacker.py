"""One who got the cache folder and the key file, and tries every key that can be had from them.

It trusts no index: it looks at every byte of the index's file, where old copies of records lie in
pages that LMDB has freed, and at every sealed page of every segment, indexed or not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.ssd.folder import IDENTITY_PURPOSE
from headrace_cache.tiers.ssd.key_file import KEY_BYTES
from headrace_cache.tiers.ssd.records import KEY_KEY, scope_key
from headrace_cache.tiers.ssd.sealing import (
    HEADER_BYTES,
    MAGIC,
    WRAPPED_KEY_BYTES,
    KeyWrap,
    ObjectIds,
    Scratch,
    unseal,
)
from tests.cache.tiers.ssd_world import SsdWorld

_HEADER = struct.Struct("<4sB3xIII16s")
#: Scopes that a test makes at most; each is tried at each place of the index.
_SCOPES = range(1, 12)


class Attacker:
    """What can be opened now."""

    def __init__(self, world: SsdWorld, *, thorough: bool = False) -> None:
        """`thorough`: try every byte as the beginning of a wrapped key, not only those where one
        could lie in any page of LMDB, freed or not."""
        self._index = (world.folder / "index" / "data.mdb").read_bytes()
        self._segments = [path.read_bytes() for path in world.segments()]
        self._page_bytes = world.page_bytes
        keys = [path.read_bytes() for path in world.key_file.parent.iterdir()]
        self._wraps = [KeyWrap(key) for key in keys if len(key) == KEY_BYTES]
        purposes = [IDENTITY_PURPOSE, *(scope_key(number) for number in _SCOPES)]
        found = {purpose: set[bytes]() for purpose in purposes}
        for purpose in purposes:
            for wrapped in self._everywhere() if thorough else self._likely(purpose):
                for wrap in self._wraps:
                    key = wrap.unwrap(wrapped, purpose)
                    if key is not None:
                        found[purpose].add(key)
        self.identities = found.pop(IDENTITY_PURPOSE)
        self._found: set[tuple[bytes, int]] | None = None
        self.scope_keys = {key for keys in found.values() for key in keys}

    def opens(self, page: PageId) -> bool:
        """Whether any copy of the page can be opened by any key."""
        if self._found is None:
            self._found = self._opened()
        return any(
            (ids.of(page.version), page.index) in self._found
            for ids in map(ObjectIds, self.identities)
        )

    def _everywhere(self) -> Iterator[bytes]:
        """A nonce does not begin with eight zeros: that spares us the empty parts."""
        for start in range(len(self._index) - WRAPPED_KEY_BYTES + 1):
            if any(self._index[start : start + 8]):
                yield self._index[start : start + WRAPPED_KEY_BYTES]

    def _likely(self, purpose: bytes) -> Iterator[bytes]:
        """LMDB writes a record's value right behind its key."""
        name, before = (KEY_KEY, 4 + 16) if purpose == IDENTITY_PURPOSE else (purpose, 8)
        start = self._index.find(name)
        while start >= 0:
            first = start + len(name) + before
            yield self._index[first : first + WRAPPED_KEY_BYTES]
            start = self._index.find(name, start + 1)

    def _opened(self) -> set[tuple[bytes, int]]:
        opened: set[tuple[bytes, int]] = set()
        scratch = Scratch(self._page_bytes)
        for segment in self._segments:
            start = segment.find(MAGIC)
            while start >= 0:
                if start + HEADER_BYTES <= len(segment):
                    _, _, index, plain, sealed, object_id = _HEADER.unpack_from(segment, start)
                    stop = start + HEADER_BYTES + sealed
                    if plain <= self._page_bytes and stop <= len(segment):
                        page = memoryview(segment)[start:stop]
                        target = memoryview(bytearray(plain))
                        for key in self._data_keys(object_id):
                            if unseal(AESGCM(key), object_id, index, page, target, scratch):
                                opened.add((object_id, index))
                start = segment.find(MAGIC, start + 1)
        return opened

    def _data_keys(self, object_id: bytes) -> set[bytes]:
        """Every key that any copy of the object's record gives."""
        keys: set[bytes] = set()
        start = self._index.find(object_id)
        while start >= 0:
            first = start + len(object_id) + 8
            wrapped = self._index[first : first + WRAPPED_KEY_BYTES]
            for scope in self.scope_keys:
                key = KeyWrap(scope).unwrap(wrapped, object_id)
                if key is not None:
                    keys.add(key)
            start = self._index.find(object_id, start + 1)
        return keys


def words_in(folder: Path, *words: bytes) -> list[tuple[Path, bytes]]:
    """Which of the words lie in plain in any file of the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(path, word) for path in files for word in words if word in path.read_bytes()]
