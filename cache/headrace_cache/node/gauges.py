"""The node looked at: every number that it can say of itself, gathered from where each is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from headrace_cache.local_service import LocalService
from headrace_cache.node.session import Session
from headrace_cache.node_facts import NodeFacts, busiest, fitting
from headrace_cache.wire.bulletin import Bulletin
from headrace_namespace.clock import Clock

_KERNEL_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Counted(Protocol):
    """The server, as far as it counts."""

    #: Requests answered.
    answered: int

    @property
    def connections(self) -> int:
        """Connections of now."""
        ...

    @property
    def most_connections(self) -> int:
        """As many as there may be."""
        ...

    @property
    def under_way(self) -> int:
        """Requests that are being answered now."""
        ...

    def sessions(self) -> Sequence[Session[Any]]:
        """The clients of now."""
        ...


class Answering(Protocol):
    """The HTTP door, as far as it counts."""

    #: Requests answered.
    answered: int


class Gauges:
    """Reads the node's numbers. Safe to use from many threads."""

    def __init__(
        self, *, service: LocalService, bulletin: Bulletin, release: str, clock: Clock
    ) -> None:
        """The node is up from now on. `server` is to be given before the first question."""
        self._service = service
        self._bulletin = bulletin
        self._release = release
        self._clock = clock
        self._since = clock.now()
        self._began = clock.monotonic()
        self.server: Counted | None = None
        #: Where other hosts come in; None where they do not.
        self.door: Answering | None = None

    def facts(self, viewer: int | None = None) -> NodeFacts:
        """All of them. Of the clients the user `viewer` is told of his own alone, unless he is root
        or the node's own user; None stands for the node itself."""
        server = self.server
        if server is None:
            raise RuntimeError("the node's server was not begun yet")
        if viewer in (0, os.geteuid()):
            viewer = None
        loans = self._service.store().loans
        sizes = loans.sizes()
        sessions = server.sessions()
        now, moment = self._clock.now(), self._clock.monotonic()
        # First chosen, then reckoned: who may see few of many clients costs little.
        seen = [each for each in sessions if viewer is None or each.peer.user == viewer]
        resident, shared = _memory()
        status = self._service.status()
        ssd = status.tiers.get("ssd")
        return NodeFacts(
            release=self._release,
            process=os.getpid(),
            since=self._since,
            seconds_up=moment - self._began,
            resident_bytes=resident,
            own_bytes=resident - shared,
            connections=server.connections,
            most_connections=server.most_connections,
            clients=len(sessions),
            rows=busiest(each.facts(sizes, now, moment) for each in seen),
            requests_under_way=server.under_way,
            requests_waiting=sum(each.turns.waiting for each in sessions),
            answered=server.answered + (self.door.answered if self.door else 0),
            lent_bytes=sum(sizes.values()),
            lent_extents=len(sizes),
            flights=self._service.reader().flights(),
            mounts_left_out=0,
            sealing_bytes=ssd.waiting if ssd else 0,
            edition=self._bulletin.edition,
            policy=self._service.policy_facts(),
            status=status,
        )

    def told(self, viewer: int) -> NodeFacts:
        """What one packet tells a client of this user."""
        return fitting(self.facts(viewer))


def _memory() -> tuple[int, int]:
    """Bytes of this process in memory, and how many of them are shared: the cache's, and files'
    (proc_pid_statm(5)); zeros where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as said:
            fields = said.read().split()
    except OSError:
        return 0, 0
    return int(fields[1]) * _KERNEL_PAGE_BYTES, int(fields[2]) * _KERNEL_PAGE_BYTES
