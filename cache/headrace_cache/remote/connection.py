"""A client's connections to its node, and the memory that the node has lent it.

The first connection carries the session, and on it the node calls extents back; a thread listens
there. The others carry one request at a time each, for as many threads as ask at once.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from headrace_cache.remote.leases import ALIVE_SECONDS, Leases
from headrace_cache.remote.lent_mapping import LentMapping
from headrace_cache.remote.lent_memory import LentMemory
from headrace_cache.wire import messages as m
from headrace_cache.wire.bulletin import PostedBulletin
from headrace_cache.wire.channel import (
    MOST_PACKET_BYTES,
    Channel,
    Ended,
    close_all,
    connected,
)
from headrace_cache.wire.told import ToldLoan
from headrace_cache.wire.values import error_of
from headrace_namespace.errors import HeadraceError, StoreAnswerWrong
from headrace_namespace.offload import WAIT_SECONDS

Answer = TypeVar("Answer", bound=m.Answer)

#: How long a node may take to take a connection, and to begin a session.
CONNECT_SECONDS = 2.0
#: Connections kept for the next requests; more are made while more threads ask at once.
MOST_KEPT = 32
#: Handles that were closed and are told with the next open.
MOST_CLOSED = 256


class NodeGone(ConnectionError):
    """The node has ended, or never was; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NodeSilent(NodeGone):
    """It is there, and takes no session: stopped, or with more to do than it can."""


class NodeConnection:
    """One session with a node. Safe to use from many threads, not across a fork."""

    def __init__(
        self,
        socket_file: Path,
        release: str,
        fingerprint: str,
        by_user: int | None,
        most_copied_bytes: int = 0,
    ) -> None:
        """`by_user` may run the node, beside this process's own user and root;
        `most_copied_bytes` bounds what is copied of lent memory that is called back while there
        are views of it. Raises NodeGone where none is there, and ConfigError where it serves
        others."""
        self._file = socket_file
        self._lock = threading.Lock()
        self._free: list[tuple[Channel, bytearray]] = []
        self._lent = LentMemory(most_copied_bytes)
        #: Handles to let go of with the next open.
        self._closed: deque[m.Closed] = deque()
        self.gone = False
        try:
            first = connected(socket_file, CONNECT_SECONDS)
        except OSError as error:
            raise _unreached(socket_file, error) from error
        self._first = first
        self._process = 0
        try:
            peer = first.peer()
            self._process, user = peer.process, peer.user
            if user not in (0, os.geteuid(), by_user):
                raise NodeGone(f"who listens at {socket_file} is user {user}, and not this one")
            hello = m.Hello(m.PROTOCOL, release, fingerprint)
            welcome, descriptors = self._begun(first, hello)
            if not isinstance(welcome, m.Welcome) or len(descriptors) != 1:
                close_all(descriptors)
                raise StoreAnswerWrong(f"what listens at {socket_file} is no node")
            self.bulletin = PostedBulletin(descriptors[0])
        except BaseException as error:
            first.close()
            if isinstance(error, OSError) and not isinstance(error, HeadraceError):
                if isinstance(error, TimeoutError):
                    raise self._silent() from error
                raise NodeGone(f"the node at {socket_file} does not answer: {error}") from error
            raise
        self._session = welcome.session
        #: What may be opened again without a call.
        self.leases = Leases(self.bulletin.numbers)
        first.socket.settimeout(None)
        self._listener = threading.Thread(
            target=self._listen, name="headrace-node-calls", daemon=True
        )
        self._listener.start()

    def ask(self, request: m.Request, kind: type[Answer]) -> Answer:
        """The node's answer, of the kind that the table says; what came with it is mapped. Raises
        what the node says, and NodeGone."""
        channel, room = self._channel()
        try:
            answer, descriptors = self._exchange(channel, room, request)
        except OSError as error:
            channel.close()
            self._lost()
            if isinstance(error, TimeoutError):
                raise self._silent() from error
            raise NodeGone(f"the node has ended: {error}") from error
        except Exception:
            channel.close()  # what it answers cannot be read
            raise
        except BaseException:
            # Interrupted: the answer still comes, and what it lends must be known here.
            start_new_thread(self._drain, (channel, room, request))
            raise
        with self._lock:
            kept = len(self._free) < MOST_KEPT and not self.gone
            if kept:
                self._free.append((channel, room))
        if not kept:
            channel.close()
        if isinstance(answer, m.Opened | m.Brought):
            self._map(_loans(answer), descriptors)
        elif descriptors:
            close_all(descriptors)
        if isinstance(answer, kind):
            return answer
        if isinstance(answer, m.Failed):
            raise error_of(answer)
        raise StoreAnswerWrong(f"the node answers {type(answer).__name__} to {request!r}")

    def _silent(self) -> NodeSilent:
        # 0 is a process of another container, 1 is systemd, which has begun to listen for the node.
        which = f"process {self._process}" if self._process > 1 else "the node's process"
        hint = f"look at {which}: it may be stopped"
        return NodeSilent(f"the node at {self._file} does not answer", hint)

    def open(
        self, path: bytes, max_age: float | None, ahead: list[bytes], kept: Sequence[m.Closed] = ()
    ) -> m.Opened:
        """Open an object, and others with it; what was closed before is let go of, and what is
        `kept` may stand on. Raises as `ask`."""
        return self.ask(m.Open(path, max_age, [*self._take_closed(), *kept], ahead), m.Opened)

    def forget_handle(self, handle: int, hits: int, served: int) -> None:
        """Let go of a handle with the next open, or with `tell_closed`. It takes no lock and asks
        nobody."""
        if not self.gone:
            self._closed.append(m.Closed(handle, hits, served))

    @property
    def has_many_closed(self) -> bool:
        """Whether `tell_closed` is due."""
        return len(self._closed) >= MOST_CLOSED

    def tell_closed(self) -> None:
        """Let go of what was closed. Raises as `ask`."""
        self.ask(m.Close(self._take_closed()), m.Done)

    def tell_counts(self) -> None:
        """Let the node know what was read by what is kept open. Raises as `ask`."""
        counts = self.leases.counts()
        for begin in range(0, len(counts), MOST_CLOSED):
            self.ask(m.Close(counts[begin : begin + MOST_CLOSED]), m.Done)

    def _take_closed(self) -> list[m.Closed]:
        taken: list[m.Closed] = []
        with suppress(IndexError):
            while len(taken) < MOST_CLOSED:
                taken.append(self._closed.popleft())
        return taken

    def extent(self, number: int) -> LentMapping | None:
        """Memory that was lent; None where it was called back meanwhile."""
        return self._lent.get(number)

    def close(self) -> None:
        """End the session; the node takes back what it has lent. Views in use keep their memory."""
        self.leases.clear()
        with suppress(NodeGone, HeadraceError):
            while self._closed and not self.gone:
                self.tell_closed()
        self._lost()

    def abandon_in_child(self) -> None:
        """After a fork: the parent's session is not ours, nor is what it was lent."""
        self.gone = True
        self._lock = threading.Lock()  # a thread of the parent may have held it
        for channel, _ in self._free:
            channel.close()
        self._first.close()
        self._lent.abandon_in_child()

    def _begun(self, first: Channel, hello: m.Hello) -> tuple[m.Answer, list[int]]:
        room = bytearray(MOST_PACKET_BYTES)
        try:
            return self._exchange(first, room, hello)
        except Ended:
            # It hung up on us, and may have said before why; the kernel tells that second.
            packet, descriptors = first.receive(room)
            close_all(descriptors)
            said = m.answer_of(packet)
            if isinstance(said, m.Failed):
                raise error_of(said) from None
            raise

    def _exchange(
        self, channel: Channel, room: bytearray, request: m.Request
    ) -> tuple[m.Answer, list[int]]:
        channel.send(m.encode(request))
        packet, descriptors = self._received(channel, room, request)
        try:
            answer = m.answer_of(packet)
        except BaseException:
            close_all(descriptors)
            raise
        if isinstance(answer, m.Failed) and isinstance(request, m.Hello):
            close_all(descriptors)
            raise error_of(answer)
        return answer, descriptors

    def _drain(self, channel: Channel, room: bytearray, request: m.Request) -> None:
        """Take the answer that nobody waits for any more."""
        try:
            packet, descriptors = self._received(channel, room, request)
            answer = m.answer_of(packet)
            if isinstance(answer, m.Opened | m.Brought):
                self._map(_loans(answer), descriptors)
            else:
                close_all(descriptors)
            if isinstance(answer, m.Opened):
                for each in (answer.asked, *answer.ahead):
                    self._closed.append(m.Closed(each.handle, 0, 0))
        except (OSError, StoreAnswerWrong):
            self._lost()
        finally:
            channel.close()

    def _received(
        self, channel: Channel, room: bytearray, request: m.Request
    ) -> tuple[memoryview, list[int]]:
        """The next packet; a store may be slow, as long as the node lives: one that was stopped
        keeps its connections, and its heart stands still. Raises OSError, StoreAnswerWrong."""
        if channel is self._first:
            return channel.receive(room)
        # What brings whole objects, or waits for a disk, takes as long as it takes.
        patient = isinstance(request, m.Warm | m.Pin | m.Flush)
        until = math.inf if patient else time.monotonic() + WAIT_SECONDS
        while True:
            beats = self.bulletin.numbers[1]
            try:
                return channel.receive(room, long=True)
            except TimeoutError:
                if time.monotonic() > until or self.bulletin.numbers[1] == beats:
                    raise

    def _channel(self) -> tuple[Channel, bytearray]:
        with self._lock:
            if self.gone:
                raise NodeGone("the node has ended")
            if self._free:
                return self._free.pop()
        try:
            channel = connected(self._file, CONNECT_SECONDS)
        except OSError as error:
            self._lost()
            raise NodeGone(f"the node takes no connection: {error}") from error
        room = bytearray(MOST_PACKET_BYTES)
        try:
            channel.socket.settimeout(ALIVE_SECONDS)
            join = m.Join(self._session)
            channel.send(m.encode(join))
            packet, descriptors = self._received(channel, room, join)  # it may have much to do
            close_all(descriptors)
            joined = m.answer_of(packet)
            if not isinstance(joined, m.Done):
                raise StoreAnswerWrong("the node does not take the connection")
        except (OSError, StoreAnswerWrong) as error:
            channel.close()
            self._lost()
            raise NodeGone(f"the node takes no connection: {error}") from error
        return channel, room

    def _map(self, loans: Sequence[ToldLoan], descriptors: list[int]) -> None:
        """Map what is new among the loans."""
        self._tell_given_back(self._lent.map(loans, descriptors))

    def _listen(self) -> None:
        """Give back what is called back, until the session ends."""
        room = bytearray(MOST_PACKET_BYTES)
        while True:
            try:
                packet, descriptors = self._first.receive(room)
                close_all(descriptors)
                answer = m.answer_of(packet)
            except (OSError, ValueError, StoreAnswerWrong):
                break
            if isinstance(answer, m.CallBack):
                self._tell_given_back(self._lent.give_back(answer.numbers))
        self._lost()

    def _tell_given_back(self, numbers: list[int]) -> None:
        """The node's answer is a `Done`, which the listening thread passes over."""
        if numbers:
            try:
                self._first.send(m.encode(m.GiveBack(numbers)))
            except OSError:
                self._lost()

    def _lost(self) -> None:
        with self._lock:
            if self.gone:
                return
            self.gone = True
            free, self._free = self._free, []
        for channel, _ in free:
            channel.close()
        with suppress(OSError):
            self._first.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that listens
        self._first.close()
        self._lent.unmap_all()


def _unreached(socket_file: Path, error: OSError) -> NodeGone:
    if isinstance(error, PermissionError):
        return NodeGone(f"the node's socket {socket_file} is closed to this user")
    if isinstance(error, TimeoutError | BlockingIOError):  # nobody takes those that wait
        return NodeSilent(f"the node at {socket_file} takes no connection")
    return NodeGone(f"no node listens at {socket_file}", hint="start one with: headrace node")


def _loans(answer: m.Opened | m.Brought) -> list[ToldLoan]:
    if isinstance(answer, m.Brought):
        return answer.loans
    return [loan for each in (answer.asked, *answer.ahead) for loan in each.loans]
