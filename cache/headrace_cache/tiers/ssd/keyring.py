"""The keys of one folder: the key-encryption key, the scopes' keys that it wraps, and whether they
are still those of the index.

    key file -> key-encryption key -> one key per scope -> one data key per object -> pages

A purge replaces the key-encryption key and wraps again only the scopes that stay. So another
process may find its keys outdated at any time: every transaction that needs one first compares the
number of its keys with the index's, and where it differs the key file is read again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.ssd.key_swap import KeyFile
from headrace_cache.tiers.ssd.records import KeyRecord, ScopeRecord, scope_key
from headrace_cache.tiers.ssd.sealing import NONCE_BYTES, KeyWrap, new_data_key
from headrace_cache.tiers.ssd.tables import Tables, Transaction
from headrace_namespace.clock import Clock
from headrace_namespace.metadata.lmdb_env import IndexDamaged
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Location, Name

_Answer = TypeVar("_Answer")

#: A purge takes two fsyncs from its commit to the new key file, and the next key lies beside it all
#: the while: a reader that meets neither is between two steps. Two seconds mean another's key.
_RELOADS, _RELOAD_SECONDS = 200, 0.01

#: How often a piece of work begins again because a purge came between; each time one has ended.
_MOST_CHANGES = 20

#: Scope keys remembered, of some hundred bytes each.
_MOST_SCOPES = 4096

#: Sealed names are padded to a multiple of this, so that their length tells less.
_PADDING = 64


class KeyChanged(Exception):
    """The index is sealed under another key than the one that this process has."""


@dataclass(frozen=True, slots=True)
class ScopeKey:
    """The key of one scope, which wraps the data keys of its objects."""

    number: int
    wrap: KeyWrap
    #: The scope's folders; None where they do not open: then nobody can say what they cover.
    scope: Scope | None


class Keys:
    """What one key-encryption key can do, and the scope keys that it opened."""

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        self.wrap = KeyWrap(key)
        self._names = AESGCM(blake2b(key=key, digest_size=32, person=b"headrace-names").digest())
        self._label = blake2b(key=key, digest_size=32, person=b"headrace-label").digest()
        #: By number. No entry outlives this object, nor this object its key.
        self._opened: dict[int, ScopeKey] = {}

    def fits(self, record: KeyRecord) -> bool:
        """Whether the index is sealed under this very key."""
        return record.number == self.number and record.fingerprint == self.wrap.fingerprint

    def label(self, scope: Scope) -> bytes:
        """By what a scope is found. It changes with the key, so that old ones tell nothing."""
        return blake2b(_text(scope), key=self._label, digest_size=16).digest()

    def make(self, number: int, scope: Scope) -> ScopeRecord:
        """A new scope, with a new key."""
        return self.seal(number, scope, new_data_key())

    def seal(self, number: int, scope: Scope, key: bytes) -> ScopeRecord:
        """The record of a scope with this key; without objects."""
        purpose, nonce = scope_key(number), os.urandom(NONCE_BYTES)
        sealed = nonce + self._names.encrypt(nonce, _text(scope), purpose)
        return ScopeRecord(0, False, self.wrap.wrap(key, purpose), sealed)

    def unwrap(self, number: int, record: ScopeRecord) -> bytes | None:
        """The scope's key."""
        return self.wrap.unwrap(record.wrapped_key, scope_key(number))

    def scope_of(self, number: int, record: ScopeRecord) -> Scope | None:
        """The scope's folders; None where they do not open."""
        nonce, sealed = record.sealed[:NONCE_BYTES], record.sealed[NONCE_BYTES:]
        try:
            return _scope(self._names.decrypt(nonce, sealed, scope_key(number)))
        except (InvalidTag, ValueError, LookupError, TypeError):
            return None

    def open(self, number: int, record: ScopeRecord) -> ScopeKey | None:
        """The key of a scope; None where it does not open."""
        key = self.unwrap(number, record)
        return (
            None if key is None else ScopeKey(number, KeyWrap(key), self.scope_of(number, record))
        )

    def known(self, number: int) -> ScopeKey | None:
        """A scope that was opened before; it lives for as long as these keys do."""
        return self._opened.get(number)

    def remember(self, scope: ScopeKey) -> None:
        """Keep an opened scope at hand; it must have been committed."""
        if len(self._opened) >= _MOST_SCOPES:
            self._opened.clear()
        self._opened[scope.number] = scope


class Keyring:
    """The keys of one open folder, exchanged when another process has purged. Thread-safe."""

    def __init__(
        self, tables: Tables, key_file: KeyFile, clock: Clock, record: KeyRecord, key: bytes
    ) -> None:
        self._tables = tables
        self._file = key_file
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = Keys(record.number, key)

    def within(self, txn: Transaction) -> Keys:
        """The keys, as they are within this transaction. Raises KeyChanged: see `renewed`."""
        keys, record = self._keys, self._tables.key(txn)
        if record is None or not keys.fits(record):
            raise KeyChanged
        return keys

    def renewed(self, work: Callable[[], _Answer]) -> _Answer:
        """Do the work, once more from its beginning for each change of the keys that it meets.

        Raises IndexDamaged where no key can be found that fits the index.
        """
        for _ in range(_MOST_CHANGES):
            try:
                return work()
            except KeyChanged:
                self._reload()
        raise IndexDamaged("its keys are changed faster than they can be read")

    def _reload(self) -> None:
        with self._lock:
            for _ in range(_RELOADS):
                with self._tables.environment.read() as txn:
                    record = self._tables.key(txn)
                if record is None or self._keys.fits(record):
                    return
                for key in self._file.candidates():
                    keys = Keys(record.number, key)
                    if keys.fits(record):
                        self._keys = keys
                        return
                self._clock.sleep(_RELOAD_SECONDS)
        raise IndexDamaged(f"it is sealed under another key than that of {self._file.path}")


def _text(scope: Scope) -> bytes:
    """One text for equal scopes, in order: [[[path, mount or null, tags or null], ...], [[space,
    key], ...]], the folders by name and by location."""
    names = [
        [
            name.path.text,
            None if name.mount is None else name.mount.text,
            None if name.tags is None else sorted(name.tags),
        ]
        for name in scope.folders
    ]
    locations = sorted([location.space, location.key] for location in scope.locations)
    told = [sorted(names, key=json.dumps), locations]
    text = json.dumps(told, separators=(",", ":")).encode()
    return text.ljust(-(-len(text) // _PADDING) * _PADDING)


def _scope(text: bytes) -> Scope:
    names, locations = json.loads(text)
    return Scope(
        frozenset(
            Name(
                NamespacePath(path),
                None if mount is None else NamespacePath(mount),
                None if tags is None else frozenset(tags),
            )
            for path, mount, tags in names
        ),
        frozenset(Location(space, key) for space, key in locations),
    )
