"""The parts of one upload on their way, several at a time, within a bound for the whole process.

Note for whoever changes it: `_lock` of `Sending` guards the counts and the first error. The caller
waits on latches alone, and what he claims is claimed on the launcher's thread, so that an interrupt
leaves neither a part uncounted nor the window too full. An upload is aborted once, by whoever finds
that no part is under way any more.
"""

from __future__ import annotations

import functools
from _thread import allocate_lock

from headrace_cache.writing.staging import PartBuffer
from headrace_namespace.errors import StoreTimeout
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.latch import Latch
from headrace_namespace.offload import WAIT_SECONDS, Offload
from headrace_namespace.write_through import UploadThrough

#: Bytes under way to stores at once, over all writers of the process: eight parts of 8 MiB fill a
#: 10 Gbit/s link at 50 ms. One larger part may go alone.
MOST_BYTES_UNDER_WAY = 64 << 20


class Window:
    """How many bytes are under way now, over all writers."""

    def __init__(self, most_bytes: int = MOST_BYTES_UNDER_WAY) -> None:
        self._most_bytes = most_bytes
        self._lock = allocate_lock()
        self._bytes = 0
        self._left = Latch()

    def enter(self, count: int) -> Latch | None:
        """Count `count` bytes as under way; else what opens when some have left."""
        with self._lock:
            if self._bytes and self._bytes + count > self._most_bytes:
                return self._left
            self._bytes += count
            return None

    def leave(self, count: int) -> None:
        """These bytes are no longer under way."""
        with self._lock:
            self._bytes -= count
            left, self._left = self._left, Latch()
        left.open()


class Sending:
    """One upload's parts. For one writer's thread; parts end on the store's threads."""

    def __init__(self, upload: UploadThrough, window: Window, launcher: Offload) -> None:
        self._upload = upload
        self._window = window
        self._launcher = launcher
        self._lock = allocate_lock()
        self._under_way: set[PartBuffer] = set()
        self._error: BaseException | None = None
        self._ended = Latch()
        self._given_up = False
        self._over = Latch()
        self._parts = 0

    def next_part_bytes(self) -> int:
        """How long the next part must be, unless it is the last."""
        return self._upload.part_bytes(self._parts)

    def send(self, buffer: PartBuffer) -> None:
        """Put the buffer's bytes on their way; waits while as much is under way as may be.

        Raises what stopped an earlier part.
        """
        while True:
            wait_for = self._launcher.run(functools.partial(self._try, self._parts, buffer))
            if wait_for is None:
                self._parts += 1
                return
            _wait(wait_for)

    def is_under_way(self, buffer: PartBuffer) -> bool:
        """Whether the buffer's part has not ended yet."""
        return buffer in self._under_way

    def drain(self) -> None:
        """Return when every part has arrived, or raise what stopped one."""
        while True:
            with self._lock:
                if self._error is not None:
                    raise self._error
                if not self._under_way:
                    return
                ended = self._ended
            _wait(ended)

    def commit(self) -> ObjectVersion:
        """Let the object take its place; all parts have arrived."""
        return self._upload.commit(self._parts)

    def abort(self) -> None:
        """Give the upload up as soon as no part is under way; returns at once. For a thread that
        nothing interrupts."""
        with self._lock:
            first = not self._given_up
            self._given_up = True
            now = first and not self._under_way
        if now:
            self._abandon()

    def wait_until_over(self) -> None:
        """Return when the upload that was given up is no more."""
        _wait(self._over)

    def _try(self, index: int, buffer: PartBuffer) -> Latch | None:
        """Send it now; else what opens when there may be room."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if len(self._under_way) >= self._upload.parallel_parts:
                return self._ended
            full = self._window.enter(buffer.length)
            if full is not None:
                return full
            self._under_way.add(buffer)
        try:
            self._upload.send(index, buffer.view(), functools.partial(self._part_ended, buffer))
        except BaseException as error:
            self._part_ended(buffer, error)
            raise
        return None

    def _part_ended(self, buffer: PartBuffer, error: BaseException | None) -> None:
        self._window.leave(buffer.length)
        with self._lock:
            self._under_way.discard(buffer)
            if self._error is None:
                self._error = error
            ended, self._ended = self._ended, Latch()
            last = self._given_up and not self._under_way
        ended.open()
        if last:
            self._abandon()

    def _abandon(self) -> None:
        try:
            self._upload.abandon(self._over.open)
        except BaseException:
            self._over.open()  # nobody else will
            raise


def _wait(latch: Latch) -> None:
    if not latch.wait(WAIT_SECONDS):
        raise StoreTimeout(f"a part did not end in {WAIT_SECONDS:.0f} s")
