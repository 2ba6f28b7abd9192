"""One connection of a client, as the node's threads see it, and its turns to be answered."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_cache.node.session import Session
from headrace_cache.node.turns import Turns
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import Channel, Peer


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
