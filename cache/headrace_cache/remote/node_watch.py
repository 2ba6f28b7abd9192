"""A node watched from outside: what it is and does, look after look, whether it is there or not."""

from __future__ import annotations

from pathlib import Path

from headrace_cache.node_facts import NodeFacts
from headrace_cache.remote.connection import NodeConnection, NodeGone, NodeSilent
from headrace_cache.wire import messages as m
from headrace_namespace.errors import StoreUnavailable


class NodeWatch:
    """For one thread at a time. Needs no cache of this process, and makes none."""

    def __init__(
        self, socket_file: Path, release: str, fingerprint: str, by_user: int | None
    ) -> None:
        """`by_user` may run the node, beside this process's own user and root."""
        self._file = socket_file
        self._hello = (release, fingerprint, by_user)
        self._connection: NodeConnection | None = None

    def look(self) -> NodeFacts:
        """What the node says now, by a new session where the last one ended. Raises
        StoreUnavailable where none is there or none answers, and ConfigError where it serves
        another configuration."""
        try:
            if self._connection is None or self._connection.gone:
                self.close()
                self._connection = NodeConnection(self._file, *self._hello)
            return self._connection.ask(m.AskNode(), m.ToldNode).facts
        except NodeGone as error:
            self.close()
            silent = error.hint if isinstance(error, NodeSilent) else None
            raise StoreUnavailable(str(error), hint=silent or _HINT) from error

    def close(self) -> None:
        """End the session, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


_HINT = "start one with: headrace node; `headrace status` tells of the cache without one"
