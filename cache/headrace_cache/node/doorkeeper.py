"""Whom the node lets in: which users, how many, and of which protocol and configuration."""

from __future__ import annotations

import os

from headrace_cache.node.refusals import Refusals
from headrace_cache.policy.audience import Audience
from headrace_cache.principals import principal_of
from headrace_cache.wire.channel import Peer
from headrace_cache.wire.messages import PROTOCOL, Hello
from headrace_namespace.errors import AccessRefused, ConfigError, HeadraceError, TooManyOpen


class Doorkeeper:
    """Lets in, or says why not, and notes it in the log. Safe to use from many threads."""

    def __init__(
        self, *, served: Audience, fingerprint: str, release: str, most_connections: int
    ) -> None:
        """`served`: whom the node serves beside its own user and root."""
        self._served = served
        self._fingerprint = fingerprint
        self._release = release
        #: Connections at once.
        self.most_connections = most_connections
        self._refusals = Refusals()

    def refusal(self, peer: Peer, connections: int) -> HeadraceError | None:
        """Why who has just come is not let in, beside so many that are; None where he is."""
        refusal: HeadraceError | None = None
        if not self._serves(peer):
            refusal = AccessRefused(
                f"this node does not serve user {peer.user}",
                hint="run a node of your own, or none; or be named in its [node] users or groups",
            )
        elif connections >= self.most_connections:
            refusal = TooManyOpen(f"the node has {self.most_connections} connections already")
        if refusal is not None:
            self._refusals.note(type(refusal).__name__, peer)
        return refusal

    def require_alike(self, hello: Hello, peer: Peer) -> None:
        """Raises ConfigError for who speaks another protocol, or has another configuration."""
        if hello.protocol != PROTOCOL:
            older = "client" if hello.protocol < PROTOCOL else "node"
            self._refusals.note("another protocol", peer)
            raise ConfigError(
                f"the node is headrace {self._release} (protocol {PROTOCOL}) and the client is "
                f"{hello.release} (protocol {hello.protocol})",
                hint=f"upgrade the {older}",
            )
        if hello.fingerprint != self._fingerprint:
            self._refusals.note("another configuration", peer)
            raise ConfigError(
                "the node serves another configuration",
                hint="start it anew with this one, or name another [node] socket in this",
            )

    def nonsense(self, error: ValueError, peer: Peer) -> ConfigError:
        """What is said to a request that makes no sense. The log is told neither the request nor
        the error's sentence: they may hold a name, or data."""
        self._refusals.note("nonsense", peer)
        return ConfigError(f"the node was asked for nonsense: {error}")

    def _serves(self, peer: Peer) -> bool:
        if peer.user in (0, os.geteuid()):
            return True
        return self._served.admits(principal_of(peer.user, peer.groups))
