"""Purging by key rotation: what was sealed under the scopes that go is noise from then on.

Deleting a wrapped key from the index leaves copies of it in the index's free pages, and a sealed
page stays in its segment. What can be destroyed are the 32 bytes of the key file. So a purge makes
a new key-encryption key, wraps by it again only the scopes that stay, and overwrites the old one
(`key_swap.py` tells the steps and what a crash leaves of each).

For this to be the whole truth, every scope key that the present key-encryption key ever wrapped
must be in `scopes` until the key is replaced. Hence a scope without objects is only taken out here,
and a scope from which an object may have moved to a wider one goes too, with whatever it still
holds: old copies of the moved object's key lie about wrapped by it (`Scopes.made`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import PurgeReport
from headrace_cache.tiers.ssd.folder import (
    IDENTITY_PURPOSE,
    FolderUnusable,
    OpenFolder,
    opening_lock,
    settled_key,
)
from headrace_cache.tiers.ssd.keyring import KeyChanged, Keys
from headrace_cache.tiers.ssd.records import (
    KeyRecord,
    ObjectRecord,
    ScopeRecord,
    ScopeTotals,
    scope_key,
)
from headrace_cache.tiers.ssd.sealing import KeyWrap, new_data_key
from headrace_cache.tiers.ssd.space import SWEEP_PAGES
from headrace_cache.tiers.ssd.tables import Transaction
from headrace_namespace.metadata.lmdb_env import IndexDamaged, IndexFull

#: What a report says was done.
METHOD = "crypto-erase: the key-encryption key was replaced"

#: Objects looked at within one read transaction, which takes some milliseconds: a longer one would
#: keep the index's freed pages from being used again.
_LOOK = 5000

#: Of so many purged objects the old wrapped key is tried with so many keys that are left.
_SAMPLE, _MOST_TRIED = 16, 1000


@dataclass(slots=True)
class _Gone:
    """What a rotation destroyed: the covered scopes by number (None: its folders did not open), and
    some of the wrapped keys of their objects."""

    covered: dict[int, Scope | None]
    objects: int = 0
    plain: int = 0
    sample: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])


def purge(folder: OpenFolder, covers: Callable[[Scope], bool]) -> PurgeReport | None:
    """Destroy the keys of the scopes that `covers` says yes to; None where there is none.

    Raises OSError, IndexFault, FolderUnusable: then they may not be destroyed.
    """
    with opening_lock(folder.path, folder.clock):
        _settle(folder)
        judged: dict[Scope, bool] = {}

        def is_covered(scope: Scope | None) -> bool:
            # Of what nobody can read, nobody can say that it is not covered.
            if scope is None:
                return True
            if scope not in judged:
                judged[scope] = covers(scope)
            return judged[scope]

        # Asked once outside the write transaction, for which other processes wait.
        if not any(is_covered(scope) for scope in folder.keyring.renewed(lambda: _read(folder))):
            return None
        gone = _rotate(folder, is_covered)
    _forget_dead(folder, gone)
    named = tuple(scope for scope in gone.covered.values() if scope is not None)
    return PurgeReport(named, gone.objects, gone.plain, METHOD, _verified_alone(folder, gone))


def tidy(folder: OpenFolder) -> None:
    """Take out the scopes that have no object left, which needs a new key-encryption key.

    Raises OSError, IndexFault, FolderUnusable.
    """
    with opening_lock(folder.path, folder.clock):
        _settle(folder)
        gone = _rotate(folder, lambda scope: scope is None)
    _forget_dead(folder, gone)


def _settle(folder: OpenFolder) -> None:
    """Complete what another purge left half done, also where nothing is left to purge: the old key
    may still be there. Raises OSError where the key file is not the folder's."""
    key = settled_key(folder.tables, folder.key_file)
    with folder.environment.read() as txn:
        record = folder.tables.key(txn)
    if record is None or record.fingerprint != KeyWrap(key).fingerprint:
        raise OSError(
            f"the key file {folder.key_file.path} was exchanged for another, so the key that the "
            "pages are sealed under cannot be destroyed; put it back, or delete all copies of it"
        )


def _read(folder: OpenFolder) -> list[Scope | None]:
    with folder.environment.read() as txn:
        keys = folder.keyring.within(txn)
        return [keys.scope_of(n, record) for n, record in folder.tables.all_scopes(txn)]


def _rotate(folder: OpenFolder, is_covered: Callable[[Scope | None], bool]) -> _Gone:
    """The change of the key-encryption key; the opening lock is held."""
    folder.key_file.require_writable()
    key = new_data_key()
    folder.key_file.write_next(key)
    # Whatever stops us from here on, Ctrl-C included, is completed or undone by the next `_settle`.
    try:
        gone = folder.keyring.renewed(lambda: _reseal(folder, key, is_covered))
    except IndexFull:
        # No room to wrap the scopes that stay: rather an empty cache than one not purged.
        gone = folder.keyring.renewed(lambda: _reseal(folder, key, is_covered, keep=False))
    folder.environment.sync()
    folder.key_file.overwrite(key)
    folder.key_file.wipe_next()
    return gone


def _reseal(
    folder: OpenFolder, key: bytes, is_covered: Callable[[Scope | None], bool], *, keep: bool = True
) -> _Gone:
    """Seal the index under the new key, but for the scopes that go, in one transaction."""
    tables = folder.tables
    with folder.environment.write() as txn:
        old, record = folder.keyring.within(txn), tables.key(txn)
        if record is None:
            raise KeyChanged
        new = Keys(record.number + 1, key)
        identity = old.wrap.unwrap(record.wrapped_identity_key, IDENTITY_PURPOSE)
        if identity is None:
            raise IndexDamaged("its identity key does not open")
        gone = _Gone({})
        staying: list[tuple[int, Scope, ScopeRecord]] = []
        for number, known in tables.all_scopes(txn):
            scope = old.scope_of(number, known)
            if is_covered(scope):
                gone.covered[number] = scope
            elif scope and keep and known.objects and not known.moved:
                scope_key_ = old.unwrap(number, known)
                if scope_key_ is not None:
                    resealed = new.seal(number, scope, scope_key_)
                    resealed.objects = known.objects
                    staying.append((number, scope, resealed))
        _replace(folder, txn, new, staying)
        wrapped = new.wrap.wrap(identity, IDENTITY_PURPOSE)
        tables.put_key(txn, KeyRecord(new.number, new.wrap.fingerprint, wrapped))
    return gone


def _replace(
    folder: OpenFolder,
    txn: Transaction,
    keys: Keys,
    staying: Iterable[tuple[int, Scope, ScopeRecord]],
) -> None:
    tables = folder.tables
    totals = ScopeTotals(tables.scope_totals(txn).next_scope)
    tables.drop_scopes(txn)
    for number, scope, record in staying:
        tables.put_scope(txn, number, record)
        tables.put_label(txn, keys.label(scope), number)
        totals.objects += record.objects
        totals.scopes += 1
    tables.put_scope_totals(txn, totals)


def _forget_dead(folder: OpenFolder, gone: _Gone) -> None:
    """Take objects whose scope is no more out of the index, in bounded transactions.

    Nobody can open them any more, and everybody counts them as absent; what a crash leaves of them
    leaves with their segments, or with the next purge.
    """
    start: bytes | None = b""
    while start is not None:
        with folder.environment.read() as txn:
            alive = {number for number, _ in folder.tables.all_scopes(txn)}
            seen = folder.tables.objects_from(txn, start, _LOOK)
        dead = [(name, record) for name, record in seen if record.scope not in alive]
        while dead:
            dead = _forget_some(folder, dead, gone)
        start = seen[-1][0] + b"\0" if len(seen) == _LOOK else None


def _forget_some(
    folder: OpenFolder, dead: list[tuple[bytes, ObjectRecord]], gone: _Gone
) -> list[tuple[bytes, ObjectRecord]]:
    """Forget as many as one transaction may; the rest."""
    tables = folder.tables
    left = SWEEP_PAGES
    with folder.environment.write() as txn:
        while dead and left > 0:
            name, record = dead[-1]
            if tables.object(txn, name) != record:
                dead.pop()  # stored again meanwhile, under a scope of today
                continue
            pages, taken = folder.space.take_out(txn, name, left)
            counted = record.scope in gone.covered
            gone.plain += taken if counted else 0
            if pages == left:
                break  # there may be more of it
            left -= pages + 1
            tables.put_object(txn, name, ObjectRecord(record.scope, 0, b""))
            tables.delete_pin(txn, name)
            gone.objects += counted
            if counted and len(gone.sample) < _SAMPLE:
                gone.sample.append((name, record.wrapped_key))
            dead.pop()
    return dead


def _verified_alone(folder: OpenFolder, gone: _Gone) -> bool:
    """`_verified`, while nobody else changes the key: the next one that another process has just
    written down is no key that was to be destroyed."""
    try:
        with opening_lock(folder.path, folder.clock):
            return _verified(folder, gone)
    except FolderUnusable:
        return False  # nobody could look


def _verified(folder: OpenFolder, gone: _Gone) -> bool:
    """Look at what is on the disk now, as one would who got both folder and key file: no key of the
    covered scopes is there, and none that is there opens an object of theirs."""
    if folder.key_file.has_next():
        return False
    with folder.environment.read() as txn:
        record = folder.tables.key(txn)
        scopes = folder.tables.all_scopes(txn)
    wraps = [KeyWrap(key) for key in folder.key_file.candidates()]
    if record is None or [wrap.fingerprint for wrap in wraps] != [record.fingerprint]:
        return False
    if any(number in gone.covered for number, _ in scopes):
        return False
    for number, scope_record in scopes[:_MOST_TRIED]:
        key = wraps[0].unwrap(scope_record.wrapped_key, scope_key(number))
        wrap = None if key is None else KeyWrap(key)
        if wrap and any(wrap.unwrap(wrapped, name) for name, wrapped in gone.sample):
            return False
    return True
