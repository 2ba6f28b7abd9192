"""The node's door: connections of local clients, each of a known user, and threads that answer.

Every thread waits for the next packet of any connection, answers it, and waits again: no packet
goes from one thread to another, and 10,000 connections that say nothing cost no thread. A client
has one request at a time on a connection; while it is answered, nothing more is read from there.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from headrace_cache.local_service import LocalService
from headrace_cache.node.answers import Answers
from headrace_cache.node.connection import Connection, Turn, Unbegun
from headrace_cache.node.doorkeeper import Doorkeeper
from headrace_cache.node.session import Lent, Session
from headrace_cache.node.store_turns import StoreTurns
from headrace_cache.node.turns import Turns
from headrace_cache.policy.audience import Principal
from headrace_cache.principals import principal_of
from headrace_cache.wire import messages as m
from headrace_cache.wire.bulletin import BEAT_SECONDS, Bulletin
from headrace_cache.wire.channel import (
    MOST_LONG_BYTES,
    MOST_PACKET_BYTES,
    Channel,
    Ended,
    close_all,
)
from headrace_cache.wire.values import told_error
from headrace_namespace.errors import ConfigError, HeadraceError

_log = logging.getLogger(__name__)

#: Requests that are answered at once. A store that stalls holds up those who ask for it, until it
#: is given up; the others go on while there is a thread left.
ANSWERING_THREADS = 64
#: Of one client: what waits for a stalled store leaves threads to the others.
MOST_OF_A_SESSION = 16
#: Connections taken before it is another's turn: of a flood of them, each would otherwise wait for
#: all that is asked meanwhile.
TAKEN_AT_ONCE = 64
#: How long a thread waits where a connection cannot be taken for want of descriptors.
ACCEPT_AGAIN_SECONDS = 0.1
#: How often it is looked whether mounts were made or undone by others.
MOUNTS_SECONDS = 1.0
#: How long the end waits for answers under way.
DRAIN_SECONDS = 10.0

_READ_ONCE = (
    select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT if hasattr(select, "epoll") else 0
)


class NodeServer:
    """Serves local clients until it is closed."""

    def __init__(
        self,
        *,
        listener: socket.socket,
        answers: Answers,
        service: LocalService,
        bulletin: Bulletin,
        doorkeeper: Doorkeeper,
        called_back: Callable[[], list[int]],
    ) -> None:
        """`called_back` gives the numbers of the extents whose room is needed; it is asked
        after each `wake`."""
        self._listener = listener
        self._answers = answers
        self._service = service
        self._bulletin = bulletin
        self._called_back = called_back
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}
        self._unbegun = Unbegun()
        self._sessions: dict[int, Session[Connection]] = {}
        self._views: WeakValueDictionary[Principal, LocalService] = WeakValueDictionary()
        self._stores: StoreTurns[Turn] = StoreTurns()
        self._numbers = itertools.count(1)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._ended = threading.Event()
        self.doorkeeper = doorkeeper
        #: Requests answered; it may lose a few, being counted by many threads.
        self.answered = 0
        self._answering: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        listener.setblocking(False)
        self._epoll.register(listener.fileno(), _READ_ONCE)
        self._epoll.register(self._wake, _READ_ONCE)

    @property
    def clients(self) -> int:
        """Sessions of now."""
        return len(self._sessions)

    def sessions(self) -> list[Session[Connection]]:
        """Each of them."""
        with self._lock:
            return list(self._sessions.values())

    @property
    def connections(self) -> int:
        """Connections of now."""
        return len(self._connections)

    @property
    def most_connections(self) -> int:
        """As many as there may be."""
        return self.doorkeeper.most_connections

    @property
    def under_way(self) -> int:
        """Requests that are being answered now."""
        return len(self._answering)

    def start(self) -> None:
        """Begin to answer."""
        works = [self._beat, self._watch_mounts, *[self._serve] * ANSWERING_THREADS]
        for number, work in enumerate(works):
            thread = threading.Thread(target=work, name=f"headrace-node-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._bulletin.beat()
            with self._lock:
                self._unbegun.end_due(time.monotonic())

    def _watch_mounts(self) -> None:
        """Not by the thread that beats: a disk that stalls is not the node's end."""
        mounts = self._service.mounted()
        while not self._ended.wait(MOUNTS_SECONDS):
            with contextlib.suppress(HeadraceError):
                now = self._service.mounted()
                if now is not mounts:
                    mounts = now
                    self._bulletin.publish_changes()

    def wake(self) -> None:
        """There are extents to call back; returns at once, from any thread."""
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Take no more requests, wait a while for those under way, and end every session."""
        self._closing = True
        self._ended.set()
        self.wake()
        until = time.monotonic() + DRAIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._lock:
            connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            self._end(connection)
        with self._lock:  # nobody writes to what another may have by then
            wake, self._wake = self._wake, -1
        self._epoll.close()
        os.close(wake)
        self._listener.close()

    def _serve(self) -> None:
        room = bytearray(MOST_PACKET_BYTES)
        while not self._closing:
            try:
                events = self._epoll.poll(maxevents=1)
            except (OSError, ValueError):
                return
            for descriptor, _ in events:
                try:
                    self._handle(descriptor, room)
                except Exception:
                    _log.exception("a client of the node could not be served")

    def _handle(self, descriptor: int, room: bytearray) -> None:
        if descriptor == self._wake:
            self._call_back()
            if self._closing:
                self.wake()  # the next thread is to see it too
            self._epoll.modify(self._wake, _READ_ONCE)
        elif descriptor == self._listener.fileno():
            try:
                for _ in range(TAKEN_AT_ONCE):
                    if not self._accept():
                        break
            finally:
                self._epoll.modify(descriptor, _READ_ONCE)
        else:
            connection = self._connections.get(descriptor)
            if connection is not None and self._has_turn(connection):
                self._answer_in_turn(connection, room)

    def _has_turn(self, connection: Connection) -> bool:
        """Whether it is this connection's turn now; a session's first needs none."""
        session = connection.session
        return session is None or connection.owner or session.turns.take(connection)

    def _answer_in_turn(self, connection: Connection, room: bytearray) -> None:
        """Answer, and then who waited for a turn of the same session, or of the same store."""
        todo = [Turn(connection)]
        while todo:
            turn = todo.pop()
            session = turn.connection.session
            counted = session is not None and not turn.connection.owner
            done = True
            try:
                done = self._answer(turn, room)
            finally:
                if done and turn.store is not None and (waited := turn.store.give()) is not None:
                    todo.append(waited)
                if done and session is not None and counted:
                    following = session.turns.give()
                    todo += [] if following is None else [Turn(following)]

    def _accept(self) -> bool:
        """Take a connection; False where none waits any more."""
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError:
            time.sleep(ACCEPT_AGAIN_SECONDS)  # no descriptor is left; others close some
            return False
        accepted.setblocking(False)
        channel = Channel(accepted)
        peer = channel.peer()
        refusal = self.doorkeeper.refusal(peer, len(self._connections))
        if refusal is not None:
            self._refuse(channel, refusal)
            return True
        connection = Connection(channel, peer)
        with self._lock:
            self._connections[accepted.fileno()] = connection
            self._unbegun.add(connection, time.monotonic())
        self._epoll.register(accepted.fileno(), _READ_ONCE)
        return True

    def _refuse(self, channel: Channel, error: Exception) -> None:
        with contextlib.suppress(BlockingIOError, Ended):
            channel.send(m.encode(told_error(error)))
        channel.close()

    def _answer(self, turn: Turn, room: bytearray) -> bool:
        """Answer one request; False where it stands in line for its store, and keeps its session's
        turn."""
        connection = turn.connection
        request: m.Request | m.Failed | None = turn.request
        if connection.session is not None and connection.session.ended:
            self._end(connection)
            return True
        if request is None:
            request = self._received(connection, room)
            if request is None:
                return True
            if connection.session is not None and not isinstance(request, m.Failed):
                turn.request = request
                turn.store = self._stores.of(connection.session, request)
                if turn.store is not None and not turn.store.take(turn):
                    return False
        if self._reply(connection, request):
            self._listen_to(connection)
        return True

    def _received(self, connection: Connection, room: bytearray) -> m.Request | m.Failed | None:
        """What it asks, or what is to be said of what it says; None where it says nothing."""
        try:
            packet, descriptors = connection.channel.receive(room)
        except BlockingIOError:
            self._listen_to(connection)
            return None
        except Exception:
            self._end(connection)
            return None
        close_all(descriptors)  # nobody sends us any
        try:
            return m.request_of(packet)
        except ValueError as error:
            return told_error(self.doorkeeper.nonsense(error, connection.peer))

    def _listen_to(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, ValueError):  # it was ended meanwhile
            self._epoll.modify(connection.channel.socket.fileno(), _READ_ONCE)

    def _reply(self, connection: Connection, request: m.Request | m.Failed) -> bool:
        """Answer one request; False where the connection ended."""
        lent: Lent | None = None
        try:
            self._answering.add(connection)
            try:
                answer, lent = self._answered(connection, request)
                encoded = m.encode(answer)
            except HeadraceError as error:
                encoded = m.encode(told_error(error))
            except ValueError as error:
                encoded = m.encode(told_error(self.doorkeeper.nonsense(error, connection.peer)))
            except Exception as error:  # a fault of ours: who waits must learn of it
                _log.exception("a request could not be answered")
                encoded = m.encode(told_error(error))
            self.answered += 1
            if len(encoded) > MOST_LONG_BYTES:
                encoded = m.encode(told_error(ConfigError("the answer is too long to be sent")))
            if connection.session is not None:
                connection.session.answered += 1
            connection.channel.send(encoded, () if lent is None else lent.descriptors)
        except Exception:  # it is gone, or does not take its answer
            self._end(connection)
            return False
        finally:
            self._answering.discard(connection)
            if lent is not None:
                lent.close()
        return True

    def _answered(
        self, connection: Connection, request: m.Request | m.Failed
    ) -> tuple[m.Answer, Lent | None]:
        if isinstance(request, m.Failed):
            return request, None
        if connection.session is not None:
            return self._answers.answer(connection.session, request)
        if isinstance(request, m.Join):
            session = self._sessions.get(request.session)
            # What is another's, by his groups too, is as if it were not there.
            if session is None or (session.peer.user, session.peer.groups) != (
                connection.peer.user,
                connection.peer.groups,
            ):
                raise ValueError(f"there is no session {request.session}")
            with self._lock:
                connection.session = session
                self._unbegun.discard(connection)
            return m.Done(), None
        if not isinstance(request, m.Hello):
            raise ValueError("a connection begins with Hello or Join")
        return self._begun(connection, request)

    def _begun(self, connection: Connection, hello: m.Hello) -> tuple[m.Answer, Lent]:
        self.doorkeeper.require_alike(hello, connection.peer)
        bulletin = Lent(descriptors=[self._bulletin.open_for_reading()])
        turns, peer = Turns[Connection](MOST_OF_A_SESSION), connection.peer
        principal = principal_of(peer.user, peer.groups)  # asks the system, which may take a while
        with self._lock:
            service = self._seen_by(principal)
            session = Session(next(self._numbers), connection.channel, service, peer, turns)
            self._sessions[session.number] = session
            connection.session, connection.owner = session, True
            self._unbegun.discard(connection)
        _log.info("a client has begun", extra=session.identity())
        return m.Welcome(session.number), bulletin

    def _seen_by(self, principal: Principal) -> LocalService:
        """The cache as these may use it, one for all their sessions; under the lock."""
        service = self._views.get(principal)
        if service is None:
            self._views[principal] = service = self._service.seen_by(principal)
        return service

    def _call_back(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        numbers = self._called_back()
        if numbers:
            with self._lock:
                sessions = list(self._sessions.values())
            for session in sessions:
                for number in session.extents.intersection(numbers):  # most have none
                    session.call_back(number)

    def _end(self, connection: Connection) -> None:
        with self._lock:
            self._connections.pop(connection.channel.socket.fileno(), None)
            self._unbegun.discard(connection)
            session = connection.session if connection.owner else None
            if session is not None:
                self._sessions.pop(session.number, None)
        connection.channel.close()
        if session is not None:
            session.end()
            answered = {"answered": session.answered}
            _log.info("a client has ended", extra={**session.identity(), **answered})
