"""The scopes within one transaction: which key an object's data key is wrapped by.

A scope whose last object left is not taken out: copies of its key and of what it wrapped stay in
the index's free pages, and a purge must still find it by its folders. It leaves when the
key-encryption key is replaced (`purging.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.ssd.keyring import Keys, ScopeKey
from headrace_cache.tiers.ssd.records import ObjectRecord
from headrace_cache.tiers.ssd.tables import Tables, Transaction
from headrace_namespace.resolution import Location, Name

#: Folders and locations of one object up to which every choice of them is looked up (254 for
#: eight); beyond, which would take links upon links, all scopes are walked through.
_MOST_LOOKED_UP = 8


class Scopes:
    """Scopes found and made within one transaction, whose keys `keys` must be."""

    def __init__(self, tables: Tables, txn: Transaction, keys: Keys) -> None:
        self._tables = tables
        self._txn = txn
        self._keys = keys
        #: Opened here: what a write transaction made is not yet committed.
        self._here: dict[int, ScopeKey | None] = {}
        self._made: dict[Scope, ScopeKey] = {}

    def of(self, record: ObjectRecord) -> ScopeKey | None:
        """The scope of an object; None where its key was destroyed."""
        return self._opened(record.scope)

    def remember(self) -> None:
        """Keep what was opened at hand for other transactions; for read transactions only."""
        for scope in self._here.values():
            if scope is not None:
                self._keys.remember(scope)

    def made(self, scope: Scope) -> ScopeKey:
        """The key of this very scope, made where it is new, for an object that was not under it."""
        known = self._made.get(scope)
        if known is None:
            known = self._made[scope] = self._found_or_new(scope)
            self._mark_narrower(scope)
        return known

    def _found_or_new(self, scope: Scope) -> ScopeKey:
        label = self._keys.label(scope)
        number = self._tables.labelled(self._txn, label)
        known = None if number is None else self._opened(number)
        if known is not None:
            return known
        totals = self._tables.scope_totals(self._txn)
        number = totals.next_scope
        totals.next_scope += 1
        totals.scopes += 1
        totals.empty += 1
        record = self._keys.make(number, scope)
        self._tables.put_scope_totals(self._txn, totals)
        self._tables.put_scope(self._txn, number, record)
        self._tables.put_label(self._txn, label, number)
        new = self._here[number] = self._keys.open(number, record)
        assert new is not None
        return new

    def widen(
        self, object_id: bytes, record: ObjectRecord, old: ScopeKey, scope: Scope
    ) -> ObjectRecord:
        """Let the object's data key be wrapped by a scope that covers both, its own and `scope`."""
        wider = self.made(scope if old.scope is None else old.scope.joined(scope))
        data_key = old.wrap.unwrap(record.wrapped_key, object_id)
        if data_key is None:
            return record
        moved = ObjectRecord(wider.number, record.pages, wider.wrap.wrap(data_key, object_id))
        self._tables.put_object(self._txn, object_id, moved)
        return moved

    def _mark_narrower(self, scope: Scope) -> None:
        """Mark the scopes of some of these parts: the object may have been under them before, as
        it was reached by fewer names. What they wrapped lies in the index's free pages, so they
        must leave with the next key-encryption key, lest they open what a rule on the wider one
        destroyed."""
        if len(scope.parts) > _MOST_LOOKED_UP:
            every = self._tables.all_scopes(self._txn)
            opened = [self._opened(number) for number, _ in every]
            narrower = [
                k.number
                for k in opened
                if k and k.scope and k.scope != scope and k.scope.within(scope)
            ]
        else:
            labels = [
                self._keys.label(_scope_of(some))
                for size in range(1, len(scope.parts))
                for some in combinations(scope.parts, size)
            ]
            found = [self._tables.labelled(self._txn, label) for label in labels]
            narrower = [number for number in found if number is not None]
        for number in narrower:
            record = self._tables.scope(self._txn, number)
            if record is not None and not record.moved:
                record.moved = True
                self._tables.put_scope(self._txn, number, record)

    def _opened(self, number: int) -> ScopeKey | None:
        known = self._keys.known(number)
        if known is not None:
            return known
        if number not in self._here:
            record = self._tables.scope(self._txn, number)
            self._here[number] = None if record is None else self._keys.open(number, record)
        return self._here[number]


def _scope_of(parts: Iterable[Name | Location]) -> Scope:
    folders = frozenset(part for part in parts if isinstance(part, Name))
    return Scope(folders, frozenset(part for part in parts if isinstance(part, Location)))
