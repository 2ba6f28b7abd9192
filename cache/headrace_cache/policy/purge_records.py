"""What was purged, for who asks later: when, by which rules, how much; of which folders without
their names.

A folder is kept as a keyed hash, by its name and by where it lies in its store, so that a record
names no restricted folder, and who knows a path can still ask whether it was concerned.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Iterable

from headrace_cache.policy.scope import Scope
from headrace_cache.service import Purge
from headrace_namespace.metadata.ledger import Book, LedgerFault, Page
from headrace_namespace.resolution import Location, Name

_log = logging.getLogger(__name__)

#: Records kept: the newest. A policy seldom changes more than daily.
MOST_RECORDS = 1000
#: Folders listed in one record. With `MOST_RECORDS` such records 34 MB, half of the ledger; one
#: that concerned more is shown for every path.
MOST_FOLDERS = 1000

#: The keys of the book: 32 random bytes, and the records as JSON by growing numbers (u64, big).
_SECRET = b"secret"
_RECORD = b"record "
_HASH_BYTES = 16


class PurgeRecords:
    """The records of all processes that share the ledger."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def add(self, purge: Purge, scopes: Iterable[Scope]) -> None:
        """Remember a purge of these scopes. Where the ledger fails, the log alone tells of it."""
        try:
            with self._book.write() as page:
                _add(page, purge, scopes)
        except LedgerFault as error:
            _log.error("a purge of %d objects was done but not recorded: %s", purge.objects, error)

    def of(self, scope: Scope) -> list[Purge]:
        """The purges that concerned folders of this scope, the newest first."""
        try:
            with self._book.read() as page:
                return _of(page, scope)
        except LedgerFault as error:
            _log.warning("the records of purges cannot be read: %s", error)
            return []


def _add(page: Page, purge: Purge, scopes: Iterable[Scope]) -> None:
    secret = page.get(_SECRET)
    if secret is None:
        secret = secrets.token_bytes(32)
        page.put(_SECRET, secret)
    folders = sorted({_hash(secret, part) for scope in scopes for part in scope.parts})
    record = {
        "at": purge.at,
        "epoch": purge.epoch,
        "rules": list(purge.rules),
        "objects": purge.objects,
        "bytes": purge.bytes,
        "method": purge.method,
        "verified": purge.verified,
        "folders": folders[:MOST_FOLDERS],
        "more": len(folders) > MOST_FOLDERS,
    }
    numbers = [key for key, _ in page.items() if key.startswith(_RECORD)]
    last = int.from_bytes(numbers[-1][len(_RECORD) :], "big") if numbers else 0
    page.put(_RECORD + (last + 1).to_bytes(8, "big"), json.dumps(record).encode())
    for key in numbers[: len(numbers) + 1 - MOST_RECORDS]:
        page.delete(key)


def _of(page: Page, scope: Scope) -> list[Purge]:
    secret = page.get(_SECRET)
    if secret is None:
        return []
    asked = {_hash(secret, part) for part in scope.parts}
    found: list[Purge] = []
    for key, value in page.items():
        if key.startswith(_RECORD):
            record = json.loads(value)
            if record["more"] or not asked.isdisjoint(record["folders"]):
                fields = ("at", "epoch", "rules", "objects", "bytes", "method", "verified")
                found.append(Purge(**{field: record[field] for field in fields}))
    return found[::-1]


def _hash(secret: bytes, folder: Name | Location) -> str:
    text = folder.path.folded if isinstance(folder, Name) else f"{folder.space}\0{folder.key}"
    told = text.encode("utf-8", "surrogatepass")
    return hmac.new(secret, told, hashlib.sha256).digest()[:_HASH_BYTES].hex()
