"""Bringing many objects into the cache before a job asks for them.

It can be ended at any point: what was brought stays, and a second run fetches only the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeAlias

from headrace_cache.extents.admission import LARGEST_SHARE_OF_SSD
from headrace_cache.service import CacheService
from headrace_mounts.parquet_ranges import column_ranges
from headrace_mounts.selecting import Unlisted
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath

#: Objects at once: each has a few requests under way, so that this many fill a fast network.
DEFAULT_JOBS = 8
MOST_JOBS = 64
#: How much of an object is asked for at once, at most, between two looks whether to go on.
STEP_BYTES = 32 << 20
#: What went wrong is named this often; past it, it is only counted.
MOST_NAMED = 10_000

MEMORY_ONLY = "the policy keeps it off the disk, and memory ends with this process"
NO_SSD = "there is no SSD tier, and memory ends with this process"
TOO_LARGE = "it is larger than the share of the SSD tier that one object may take"


@dataclass(slots=True)
class Warmed:
    """What was done: `objects` and `bytes` are held now, `bytes_fetched` came from the stores for
    it, `skipped` counts objects by why there was no use in it."""

    objects: int = 0
    bytes: int = 0
    bytes_fetched: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    failed: list[tuple[NamespacePath, Exception]] = field(
        default_factory=list[tuple[NamespacePath, Exception]]
    )
    failures: int = 0

    def fail(self, path: NamespacePath, error: Exception) -> None:
        """Note one that could not be brought."""
        self.failures += 1
        if len(self.failed) < MOST_NAMED:
            self.failed.append((path, error))


@dataclass(frozen=True, slots=True)
class _Brought:
    bytes: int
    fetched: int


@dataclass(frozen=True, slots=True)
class _Ended:
    path: NamespacePath
    outcome: str | Exception | None


_Message: TypeAlias = _Brought | _Ended


class Warmer:
    """Brings objects into the cache on threads of its own. For one thread, and one use."""

    def __init__(
        self, service: CacheService, *, jobs: int = DEFAULT_JOBS, columns: Sequence[str] = ()
    ) -> None:
        self._service = service
        self._columns = columns
        tiers = service.status().tiers
        ssd, memory = tiers.get("ssd"), tiers["memory"].limit
        self._ssd_bytes = ssd.limit if ssd else 0
        # All jobs' steps together must fit into half of memory, with room for what is sealed.
        self._step_bytes = max(1, min(STEP_BYTES, memory // 4))
        self._jobs = min(max(1, jobs), MOST_JOBS, max(1, memory // (2 * self._step_bytes)))
        self._messages: SimpleQueue[_Message] = SimpleQueue()
        self._stopped = False

    def warm(
        self, found: Iterable[Entry | Unlisted], note: Callable[[Warmed], None] | None = None
    ) -> Warmed:
        """Bring all of these; `note` hears of each step. An error of one object ends only it."""
        pool = Offload(self._jobs)
        done = Warmed()
        under_way = 0
        try:
            for entry in found:
                if isinstance(entry, Unlisted):
                    done.fail(entry.path, entry.error)
                    continue
                while under_way >= 2 * self._jobs:
                    under_way -= self._take(done, note)
                pool.submit(functools.partial(self._bring, entry.path))
                under_way += 1
            while under_way:
                under_way -= self._take(done, note)
        finally:
            self._stopped = True
            pool.close()
        self._service.flush()
        return done

    def _take(self, done: Warmed, note: Callable[[Warmed], None] | None) -> int:
        """Count the next message; 1 where an object ended."""
        message = self._messages.get()
        if isinstance(message, _Brought):
            done.bytes += message.bytes
            done.bytes_fetched += message.fetched
        elif isinstance(message.outcome, str):
            done.skipped[message.outcome] = done.skipped.get(message.outcome, 0) + 1
        elif message.outcome is not None:
            done.fail(message.path, message.outcome)
        else:
            done.objects += 1
        if note is not None:
            note(done)
        return int(isinstance(message, _Ended))

    def _bring(self, path: NamespacePath) -> None:
        """One object, on a thread of the pool."""
        outcome: str | Exception | None = None
        try:
            if not self._stopped:
                outcome = self._bring_object(path)
        except Exception as error:  # whatever it is, the others go on and it is told
            outcome = error
        self._messages.put(_Ended(path, outcome))

    def _bring_object(self, path: NamespacePath) -> str | None:
        """Bring one object; why there was no use in it, where there was none."""
        opened = self._service.open(path)
        try:
            size = opened.version.size
            if opened.restricted:
                return MEMORY_ONLY
            if not self._ssd_bytes:
                return NO_SSD
            if size > LARGEST_SHARE_OF_SSD * self._ssd_bytes:
                return TOO_LARGE
            ranges = column_ranges(opened, self._columns) if self._columns else [(0, size)]
            for start, stop in ranges:
                for begin in range(start, stop, self._step_bytes):
                    end = min(begin + self._step_bytes, stop)
                    fetched = opened.warm(begin, end)
                    self._messages.put(_Brought(end - begin, fetched))
                    if self._stopped:
                        raise HeadraceError(f"{path} was not brought whole", path=path.text)
            return None
        finally:
            opened.close()
