"""A tier that stores in the background, so that a reader does not wait for sealing.

It changes one thing of the tier it wraps: `store` puts the pages into a bounded queue, and one
thread seals them in batches. Nothing is lost to the bound: where the queue is full the caller seals
its own pages, which slows exactly those who store faster than the disk takes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import HeldPage, PageTier, PurgeReport, TierUsage

_log = logging.getLogger(__name__)

#: What the thread takes at once: enough to spread a commit (a tenth of a millisecond here, some
#: milliseconds on a slow disk) over, little enough that its memory soon returns.
BATCH_BYTES = 32 << 20
BATCH_PAGES = 1024

#: Pages that may wait, whatever their bytes: about 0.5 KB of bookkeeping each, 8 MB together. Large
#: pages are bounded by their bytes long before.
BACKLOG_PAGES = 16_384

#: How long `flush` waits for the queue. A backlog of 1 GiB takes about a second on an SSD; a minute
#: means that the disk hangs, and the pages, being a cache's, may be missed.
FLUSH_SECONDS = 60.0

#: How long `forget` and `purge` wait for a batch that is just being stored.
FORGET_SECONDS = 10.0

_Page = tuple[PageId, memoryview, Scope]


class WriteBehindTier:
    """Stores into `inner` from a thread of its own; holds at most `backlog_bytes` of pages for it,
    and at most `BACKLOG_PAGES` pages.

    `store` keeps views of the caller's memory until its pages are sealed: the caller must not write
    to that memory before `flush`. (Pages only go from absent to present, so nobody does.) The
    caller's own memoryview objects are its own; what is kept are views of the same memory, released
    as soon as they are sealed.
    """

    def __init__(self, inner: PageTier, backlog_bytes: int) -> None:
        self._inner = inner
        self._backlog_bytes = backlog_bytes
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[_Page] = deque()
        #: Pages queued or being stored, and their scopes.
        self._waiting: dict[PageId, Scope] = {}
        #: The scopes of the batch that is just being stored, and its number.
        self._storing: frozenset[Scope] = frozenset()
        self._batch = 0
        self._queued_bytes = 0
        self._queued_pages = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        """From `inner`; pages still queued are in the caller's memory anyway."""
        return self._inner.load(pages)

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        """Queue the pages, or store them now where the queue has no room for them."""
        self.store_each([(page, view, scope) for page, view in pages])

    def store_each(self, pages: Sequence[_Page]) -> None:
        """As `store`, for pages of several scopes."""
        self._notice_fork()
        own: list[_Page] = []
        with self._changed:
            for page, view, scope in pages:
                if self._closed or not self._has_room(len(view)):
                    own.append((page, view, scope))
                # A page that waits under another scope is given once more: `inner` joins the two.
                elif self._waiting.get(page) != scope:
                    self._waiting[page] = scope
                    self._queue.append((page, memoryview(view), scope))
                    self._queued_bytes += len(view)
                    self._queued_pages += 1
            if self._queue and self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="headrace-ssd-writer", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
        if own:
            self._inner.store_each(own)

    def holds(self, page: PageId) -> bool:
        """Whether `inner` keeps the page, or soon will."""
        self._notice_fork()
        return page in self._waiting or self._inner.holds(page)

    def forget(self, version: bytes) -> int:
        """Forget the version's pages, those in the queue too."""
        self._notice_fork()
        forgotten = 0
        with self._changed:
            if self._awaits(version):
                forgotten = self._unqueue(lambda page, _: page.version == version)
                # What is being sealed just now would come back after it was forgotten.
                self._changed.wait_for(lambda: not self._awaits(version), FORGET_SECONDS)
        return forgotten + self._inner.forget(version)

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        """Drop what is queued of the covered scopes, then purge `inner`.

        Raises OSError too where a batch with such pages was still being stored after
        `FORGET_SECONDS`: they could come back.
        """
        self._notice_fork()
        judged: dict[Scope, bool] = {}
        while True:
            with self._changed:
                unknown = {scope for _, _, scope in self._queue} | self._storing
                unknown -= judged.keys()
                if not unknown:
                    self._unqueue(lambda _, scope: judged[scope])
                    # What is being sealed just now would come back after the purge.
                    covered = any(judged[scope] for scope in self._storing)
                    late = covered and not self._wait_for_batch()
                    break
            # Asked outside the lock: how long the caller's judgement takes is not ours to say.
            judged.update({scope: covers(scope) for scope in unknown})
        report = self._inner.purge(covers)
        if late:
            raise OSError(
                f"the SSD tier did not take a batch within {FORGET_SECONDS:.0f} seconds, and it "
                "holds pages that are to be purged; try again"
            )
        return report

    def inspect(self, version: bytes) -> Sequence[HeldPage]:
        """As `inner` says; queued pages are held when they are stored."""
        return self._inner.inspect(version)

    def expire(self, version: bytes, before: float) -> int:
        """As `inner` does; what is queued is new."""
        return self._inner.expire(version, before)

    def pin(self, version: bytes) -> bool:
        """As `inner` does, for what is queued too."""
        return self._inner.pin(version)

    def unpin(self, version: bytes) -> bool:
        """As `inner` does."""
        return self._inner.unpin(version)

    def pinned(self, version: bytes) -> bool:
        """As `inner` says."""
        return self._inner.pinned(version)

    def usage(self) -> TierUsage:
        """As `inner` says; queued pages count as waiting until they are stored."""
        return replace(self._inner.usage(), waiting=self._queued_bytes)

    def flush(self) -> None:
        """Wait until all that was queued is stored, but no longer than `FLUSH_SECONDS`."""
        self._notice_fork()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._waiting, FLUSH_SECONDS):
                _log.warning(
                    "the SSD tier did not take %d pages within %.0f seconds; they may be missed",
                    len(self._waiting),
                    FLUSH_SECONDS,
                )
        self._inner.flush()

    def close(self) -> None:
        """Flush, end the thread and close `inner`."""
        self.flush()
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(FLUSH_SECONDS)
        self._inner.close()

    def after_fork_in_child(self) -> None:
        """Drop the queue, which is the parent's to store, and start anew without a thread."""
        queue = self._queue
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._queue = deque()
        self._waiting = {}
        self._storing = frozenset()
        self._queued_bytes = 0
        self._queued_pages = 0
        self._thread = None
        for _, view, _ in queue:
            view.release()
        self._inner.after_fork_in_child()

    def _has_room(self, count: int) -> bool:
        """Whether a page of so many bytes may wait; those being stored count until they are."""
        return (
            self._queued_bytes + count <= self._backlog_bytes and self._queued_pages < BACKLOG_PAGES
        )

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self.after_fork_in_child()

    def _wait_for_batch(self) -> bool:
        """Whether the batch that is being stored now was, within `FORGET_SECONDS`."""
        number = self._batch
        return self._changed.wait_for(
            lambda: not self._storing or self._batch != number, FORGET_SECONDS
        )

    def _awaits(self, version: bytes) -> bool:
        return any(page.version == version for page in self._waiting)

    def _unqueue(self, chosen: Callable[[PageId, Scope], bool]) -> int:
        """Take the chosen pages out of the queue; their bytes."""
        taken = 0
        kept: deque[_Page] = deque()
        for page, view, scope in self._queue:
            if chosen(page, scope):
                taken += len(view)
                self._waiting.pop(page, None)
                view.release()
            else:
                kept.append((page, view, scope))
        self._queued_pages -= len(self._queue) - len(kept)
        self._queue = kept
        self._queued_bytes -= taken
        return taken

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                batch = self._next_batch()
                self._storing = frozenset(scope for _, _, scope in batch)
                self._batch += 1
            if not batch:
                return
            try:
                self._inner.store_each(batch)
            except Exception:
                # A tier does not raise; if one does after all, the thread must live on.
                _log.exception("storing %d pages in the background failed", len(batch))
            finally:
                with self._changed:
                    self._storing = frozenset()
                    for page, view, _ in batch:
                        self._waiting.pop(page, None)
                        self._queued_bytes -= len(view)
                        view.release()
                    self._queued_pages -= len(batch)
                    self._changed.notify_all()

    def _next_batch(self) -> list[_Page]:
        batch: list[_Page] = []
        taken = 0
        while self._queue and len(batch) < BATCH_PAGES and taken < BATCH_BYTES:
            batch.append(self._queue.popleft())
            taken += len(batch[-1][1])
        return batch
