"""One object being written: its bytes gathered into parts, sent, committed, and kept for reading.

It does steps 4 to 8 of the journey (`writer.py`). A writer that is dropped, interrupted or that
failed frees its memory and aborts its upload; nothing but `commit` makes an object. After a fork a
writer belongs to the parent: the child's copy refuses, and never touches the parent's upload.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from headrace_cache.writing.sending import Sending, Window
from headrace_cache.writing.staging import PartBuffer, Piece, Staging
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Resolved
from headrace_namespace.write_through import Expected, UploadThrough, WriteThrough

_log = logging.getLogger(__name__)

#: An object of at most so many bytes goes to its store in one request. As large as a part is, so
#: that only what needs an upload pays for beginning one.
PUT_BYTES = 8 << 20

#: Lets staged pieces become the cached pages of the version; for `Writer` to give.
Keep = Callable[["WritePlan", ObjectVersion, list[Piece]], None]


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What opening for writing settled: where it goes, on which condition, what it begins with,
    and whether the cache may hold its bytes."""

    path: NamespacePath
    resolved: Resolved
    expected: Expected
    stage: bool
    base: ObjectVersion | None = None


@dataclass(frozen=True, slots=True)
class WriteTools:
    """What all writers of a process share."""

    through: WriteThrough
    staging: Staging
    window: Window
    launcher: Offload
    keep: Keep
    put_bytes: int = PUT_BYTES


class _Remains:
    """What a writer holds, apart from it, so that it can be let go when the writer is gone.

    It changes on the launcher's one thread alone: what an interrupt cut off is found here.
    """

    def __init__(self, tools: WriteTools) -> None:
        self._tools = tools
        self.buffers: list[PartBuffer] = []
        self.sending: Sending | None = None
        self.gone = False

    def take(self, upload: UploadThrough) -> None:
        """An upload has begun; for the store's thread that began it."""

        def take() -> None:
            self.sending = Sending(upload, self._tools.window, self._tools.launcher)
            if self.gone:
                self.sending.abort()

        self._tools.launcher.run(take)

    def committed(self) -> None:
        """The upload is over: there is nothing to abort."""
        self.sending = None

    def let_go(self) -> None:
        """Abort the upload and give all memory back; returns at once."""

        def let_go() -> None:
            self.gone = True
            try:
                if self.sending is not None:
                    self.sending.abort()
            finally:
                buffers, self.buffers = self.buffers, []
                self._tools.staging.give_back(buffers)

        self._tools.launcher.run(let_go)


class ObjectWriter:
    """A new object being written; see `OpenWriter`. For one thread."""

    def __init__(self, tools: WriteTools, plan: WritePlan, ended: Callable[[ObjectWriter], None]):
        self._tools = tools
        self._plan = plan
        self._ended_hook = ended
        self._pid = os.getpid()
        self._remains = _Remains(tools)
        self._buffer: PartBuffer | None = None
        #: Parts that were sent and still lie staged, in order.
        self._kept: list[Piece] = []
        self._begun = plan.base.size if plan.base is not None else 0
        self._written = self._begun
        #: Where in the object the buffer's bytes begin.
        self._buffer_start = self._begun
        self._over = False

    @property
    def path(self) -> NamespacePath:
        """The path that it is written to."""
        return self._plan.path

    @property
    def written(self) -> int:
        """Bytes written so far; with those that were there before, where it appends."""
        return self._written

    def write(self, data: memoryview) -> None:
        """The next bytes; waits while as much is under way as may be."""
        self._check()
        try:
            with memoryview(data) as own, own.cast("B") as rest:
                self._take(rest)
        except BaseException:
            self.abort()
            raise
        self._written += data.nbytes

    def finish(self) -> None:
        """Send all that was written, where it is more than one request takes."""
        self._check()
        try:
            # Once more where the store's parts have another length: then it was cut anew, not sent.
            while self._buffer is not None and (
                self._remains.sending is not None or self._plan.base is not None
            ):
                self._send()
            if self._remains.sending is not None:
                self._remains.sending.drain()
        except BaseException:
            self.abort()
            raise

    def commit(self) -> ObjectVersion:
        """Let the object take its place; the version that the store gave it."""
        self.finish()
        version = self._made()
        # From here on the object is there: nothing that follows may say otherwise.
        self._over = True
        self._ended_hook(self)
        pieces = self._kept
        if self._buffer is not None:
            pieces.append(Piece(self._buffer_start, self._buffer))
        self._remains.committed()
        try:
            self._tools.keep(self._plan, version, pieces)
        except Exception as error:
            if not isinstance(error, HeadraceError):
                _log.warning("a new object could not be kept for reading", exc_info=True)
        finally:
            # Not what is being settled: whoever settles has taken that over.
            self._kept, self._buffer = [], None
            self._remains.let_go()
        return version

    def abort(self) -> None:
        """Give it up: what was there stays. Does nothing after the end, nor in a forked child."""
        if self._over or self._pid != os.getpid():
            return
        self._over = True
        self._kept, self._buffer = [], None
        self._ended_hook(self)
        self._remains.let_go()
        if self._remains.sending is not None:
            self._remains.sending.wait_until_over()

    def __del__(self) -> None:
        remains = getattr(self, "_remains", None)
        if remains is not None and not remains.gone and self._pid == os.getpid():
            self._tools.launcher.later(remains.let_go)

    def _made(self) -> ObjectVersion:
        """Step 7: the one request that makes the object."""
        tools, plan = self._tools, self._plan
        if self._remains.sending is not None:
            return self._remains.sending.commit()
        if plan.base is not None:
            return plan.base  # nothing was appended
        if self._buffer is None:
            return tools.through.put(plan.resolved, memoryview(b""), plan.expected)
        return tools.through.put(plan.resolved, self._buffer.view(), plan.expected)

    def _take(self, data: memoryview) -> None:
        """Step 4 and 5: gather into parts, and send each that is full when more comes."""
        position = 0
        while position < len(data):
            if self._buffer is None:
                self._buffer = self._new_buffer()
            elif self._buffer.is_full:
                self._send()
                continue
            with data[position:] as rest:
                position += self._buffer.append(rest)

    def _new_buffer(self) -> PartBuffer:
        sending, tools = self._remains.sending, self._tools
        self._trim()
        capacity = tools.put_bytes if sending is None else sending.next_part_bytes()
        return tools.staging.buffer(capacity, self._remains.buffers, stage=self._plan.stage)

    def _send(self) -> None:
        """Send what the buffer holds: a full part, or the last."""
        buffer = self._buffer
        assert buffer is not None
        if self._remains.sending is None:
            self._begin()
            if self._remains.sending is not None and buffer.length > 0:
                first = self._remains.sending.next_part_bytes()
                if first != buffer.capacity:
                    self._regather(buffer)
                    return
        sending = self._remains.sending
        assert sending is not None
        sending.send(buffer)
        self._kept.append(Piece(self._buffer_start, buffer))
        self._buffer_start += buffer.length
        self._buffer = None

    def _begin(self) -> None:
        tools, plan = self._tools, self._plan
        tools.through.begin_upload(plan.resolved, plan.expected, plan.base, self._remains.take)

    def _regather(self, buffer: PartBuffer) -> None:
        """The store's parts have another length than the buffer: cut its bytes anew."""
        self._buffer = None
        with buffer.view() as gathered:
            self._take(gathered)
        self._let_go([buffer])

    def _trim(self) -> None:
        """Give back what was sent and will not be kept: private memory, and what is too much."""
        sending = self._remains.sending
        if sending is None:
            return
        most = self._tools.staging.kept_bytes
        kept = sum(piece.buffer.length for piece in self._kept)
        gone: list[PartBuffer] = []
        left: list[Piece] = []
        for piece in self._kept:
            keep = piece.buffer.extent is not None and kept <= most
            if keep or sending.is_under_way(piece.buffer):
                left.append(piece)
            else:
                gone.append(piece.buffer)
                kept -= piece.buffer.length
        if gone:
            self._kept = left
            self._let_go(gone)

    def _let_go(self, buffers: list[PartBuffer]) -> None:
        self._tools.staging.give_back(buffers)
        for buffer in buffers:
            self._remains.buffers.remove(buffer)

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise ValueError(
                f"{self.path} was being written when this process was forked: only the process "
                "that began it can go on"
            )
        if self._over:
            raise ValueError(f"the writing of {self.path} has ended")
