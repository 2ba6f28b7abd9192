"""One connection of a client, as the node's threads see it, and its turns to be answered."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass

from headrace_cache.node.session import Session
from headrace_cache.node.turns import Turns
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import Channel, Peer

#: How long a connection may say neither Hello nor Join, of which a client says one at once; then it
#: is ended.
MOST_UNBEGUN_SECONDS = 10.0


class Connection:
    """A connection, and the session that it has begun or joined."""

    __slots__ = ("channel", "owner", "peer", "session")

    def __init__(self, channel: Channel, peer: Peer) -> None:
        self.channel = channel
        self.peer = peer
        self.session: Session[Connection] | None = None
        #: Whether it began its session, which ends with it.
        self.owner = False


@dataclass(slots=True, eq=False)
class Turn:
    """Somebody's turn: to be asked what he wants, or, where he stood in line for his store since
    then, to have it."""

    connection: Connection
    request: m.Request | None = None
    store: Turns[Turn] | None = None


class Unbegun:
    """Connections that have no session yet. Used under the lock under which they are closed, so
    that none of them is closed meanwhile, and its descriptor another's."""

    def __init__(self) -> None:
        #: Until when each may have none; the oldest first.
        self._until: dict[Connection, float] = {}

    def add(self, connection: Connection, now: float) -> None:
        """It has come."""
        self._until[connection] = now + MOST_UNBEGUN_SECONDS

    def discard(self, connection: Connection) -> None:
        """It has begun a session, or ended."""
        self._until.pop(connection, None)

    def end_due(self, now: float) -> None:
        """Let those come to their end that never began one: a thread of the node sees it."""
        while self._until:
            connection, until = next(iter(self._until.items()))
            if until > now:
                return
            del self._until[connection]
            with suppress(OSError):
                connection.channel.socket.shutdown(socket.SHUT_RDWR)
