"""What all processes that share a cache folder have done together, kept in the ledger.

The book `totals` holds one record a name: `since` (seconds since the epoch), `counter:hits` and the
like (a decimal number), and for each mount `mount:` and a hash of its path (JSON: the path, and how
often each operation was asked). Never an object's name.

Each process adds what it did since it added last: now and then while it opens files or fetches, at
a flush, and at its end. One that is killed loses at most what it did in `ADD_SECONDS`, and what its
open files have not counted yet. A warm read does nothing for it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import cast

from headrace_cache.service import Totals
from headrace_namespace.clock import Clock
from headrace_namespace.errors import StoreTimeout
from headrace_namespace.metadata.ledger import Ledger, LedgerFault, Page
from headrace_namespace.metrics import (
    BYTES_FETCHED,
    BYTES_SERVED,
    HITS,
    MISSES,
    MOST_COUNT,
    Counters,
)
from headrace_namespace.offload import Offload

_log = logging.getLogger(__name__)

#: What a killed process may lose. Adding takes one commit, some milliseconds on a disk.
ADD_SECONDS = 30.0
#: Mounts that came and went are kept in the book too, but not without end: 300 bytes each.
MOST_MOUNTS = 4000

_COUNTED = (HITS, MISSES, BYTES_FETCHED, BYTES_SERVED)
_SINCE = b"since"
_COUNTER = b"counter:"
_MOUNT = b"mount:"

_Requests = Mapping[str, Mapping[str, int]]


class FetchCounters(Counters):
    """Counters that call `on_fetch` whenever a store's bytes came: then something is to be kept.

    Not at other counts: those of hits may come from a finalizer, which must take no lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_fetch: Callable[[], None] = lambda: None

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount` to the counter `name`."""
        super().add(name, amount)
        if name == BYTES_FETCHED:
            self.on_fetch()


class TotalsKeeper:
    """Adds what one process does to the book. Safe to use from many threads; not across a fork.

    What cannot be kept is told once in the log, and never to those who read.
    """

    def __init__(
        self,
        ledger: Ledger,
        counters: Counters,
        requests: Callable[[], _Requests],
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._counters = counters
        self._requests = requests
        self._clock = clock
        self._next_add = clock.monotonic() + ADD_SECONDS
        # A commit waits for the disk, and an interrupted one could count twice: never on the
        # caller's thread, nor on one that fetches. This one alone touches what follows.
        self._adder = Offload(1)
        self._added: Mapping[str, int] = {}
        self._added_requests: _Requests = {}
        self._complained = False

    def add_if_due(self) -> None:
        """Have what was done added, where that is long ago; never waits."""
        now = self._clock.monotonic()
        if now >= self._next_add:
            self._next_add = now + ADD_SECONDS
            with suppress(StoreTimeout):  # closed meanwhile, which adds it too
                self._adder.offer(self._add)

    def add(self) -> None:
        """Return when what was done so far is added."""
        self._next_add = self._clock.monotonic() + ADD_SECONDS
        self._adder.run(self._add)

    def totals(self) -> Totals:
        """What all processes have done, this one up to now."""
        self.add()
        try:
            with self._ledger.book("totals").read() as page:
                records = dict(page.items())
        except LedgerFault as error:
            self._complain(error)
            records = dict[bytes, bytes]()
        counted = {name: _number(records.get(_COUNTER + name.encode())) for name in _COUNTED}
        mounts = [_mount(raw) for key, raw in records.items() if key.startswith(_MOUNT)]
        lasts = self._ledger.lasts and _SINCE in records
        return Totals(
            since=_number(records[_SINCE]) / 1000 if lasts else None,
            hits=counted[HITS],
            misses=counted[MISSES],
            bytes_fetched=counted[BYTES_FETCHED],
            bytes_served=counted[BYTES_SERVED],
            requests={path: dict(asked) for path, asked in sorted(mounts) if path},
        )

    def close(self) -> None:
        """Add the rest."""
        self.add()
        self._adder.close()

    def _add(self) -> None:
        """Add what was done since the last time; on the adder's thread alone."""
        now, requests = self._counters.values(), self._requests()
        more = {name: now.get(name, 0) - self._added.get(name, 0) for name in _COUNTED}
        asked = {
            path: Counter(counts) - Counter(self._added_requests.get(path, {}))
            for path, counts in requests.items()
        }
        if not any(more.values()) and not any(asked.values()):
            return
        try:
            with self._ledger.book("totals").write() as page:
                self._write(page, more, asked)
        except LedgerFault as error:
            self._complain(error)
        else:
            self._added, self._added_requests = now, requests

    def _write(
        self, page: Page, more: Mapping[str, int], asked: Mapping[str, Counter[str]]
    ) -> None:
        if page.get(_SINCE) is None:
            page.put(_SINCE, b"%d" % (self._clock.now() * 1000))
        for name, amount in more.items():
            key = _COUNTER + name.encode()
            page.put(key, b"%d" % min(_number(page.get(key)) + amount, MOST_COUNT))
        kept = sum(1 for key, _ in page.items() if key.startswith(_MOUNT))
        for path, counts in asked.items():
            if not counts:
                continue
            key = _MOUNT + _digest(path)
            before = page.get(key)
            if before is None and kept >= MOST_MOUNTS:
                continue
            kept += before is None
            whole = Counter(_mount(before or b"{}")[1]) + counts
            page.put(key, json.dumps({"mount": path, "requests": whole}).encode())

    def _complain(self, error: LedgerFault) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("what was read and fetched is not added to the totals: %s", error)


def _digest(path: str) -> bytes:
    """A path may be longer than a key."""
    raw = path.encode("utf-8", "surrogateescape")
    return blake2b(raw, digest_size=16).hexdigest().encode()


def _number(raw: bytes | None) -> int:
    """0 where there is none, or what is there is none."""
    return min(int(raw), MOST_COUNT) if raw is not None and raw.isdigit() else 0


def _mount(raw: bytes) -> tuple[str, dict[str, int]]:
    """A mount's path and how often what was asked of it; no path where it cannot be read."""
    try:
        record = cast("dict[str, object]", json.loads(raw))
        requests = cast("dict[str, object]", record.get("requests", {}))
        counted = {name: count for name, count in requests.items() if isinstance(count, int)}
        return str(record.get("mount", "")), counted
    except (ValueError, AttributeError):
        return "", {}
