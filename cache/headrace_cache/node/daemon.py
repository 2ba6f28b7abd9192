"""The node as a process: built, announced, and ended in order."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_cache.backing import most_descriptors
from headrace_cache.local_service import LocalService
from headrace_cache.node.answers import Answers
from headrace_cache.node.doorkeeper import Doorkeeper
from headrace_cache.node.gauges import Gauges
from headrace_cache.node.own_socket import NotOurs, OwnSocket
from headrace_cache.node.server import NodeServer
from headrace_cache.node_facts import NodeFacts
from headrace_cache.policy.audience import NOBODY, Audience
from headrace_cache.wire.bulletin import Bulletin
from headrace_namespace.clock import Clock
from headrace_namespace.errors import ConfigError
from headrace_namespace.units import format_bytes

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from headrace_cache.access import HttpAccess
    from headrace_cache.node.http.door import HttpDoor

#: Connections that may wait to be taken: as many as come between two looks of the node's threads.
BACKLOG = 1024
#: Connections at once; one more is closed at once. A quarter of the descriptors at most: extents
#: take three.
MOST_CONNECTIONS = 16_384
#: How often the service manager is told of clients and tiers.
STATUS_SECONDS = 10.0
#: The first descriptor that systemd hands over (sd_listen_fds(3)).
_FIRST_HANDED = 3
_OTHER_NODE = "look at it with: headrace top; a second one needs another [node] socket"
_OTHER_SOCKET = "name another one, in a folder that is there and that the node may write to"


class Recalls:
    """Numbers of extents whose room is needed, from the memory tier to the server."""

    def __init__(self) -> None:
        self._numbers: collections.deque[int] = collections.deque(maxlen=4096)
        self.server: NodeServer | None = None

    def add(self, number: int) -> None:
        """Called by the memory tier, under its lock; returns at once."""
        self._numbers.append(number)
        if self.server is not None:
            self.server.wake()

    def take(self) -> list[int]:
        """All that came since."""
        taken: dict[int, None] = {}
        with contextlib.suppress(IndexError):
            while True:
                taken[self._numbers.popleft()] = None
        return list(taken)


class NodeRunsAlready(ConfigError):
    """Another node has the socket."""


class Node:
    """A cache that other processes of this host use."""

    def __init__(
        self,
        *,
        service: LocalService,
        recalls: Recalls,
        bulletin: Bulletin,
        socket_file: Path,
        handed: socket.socket | None,
        fingerprint: str,
        release: str,
        served: Audience,
        clock: Clock,
        open_door: Callable[[Callable[[], str]], HttpDoor] | None = None,
        read_access: Callable[[], HttpAccess] | None = None,
    ) -> None:
        """Begins to serve at `socket_file`, or on a socket that was `handed` over, its own user,
        root, and whom `served` admits (NOBODY: no others); and other hosts by `open_door`,
        which is given what says `/metrics`; `read_access` reads anew whom that admits. Raises
        NodeRunsAlready where one is there, and ConfigError where there is no place for its
        socket."""
        _log.info("the node begins", extra={"release": release, "pid": os.getpid()})
        self._service = service
        self._bulletin = bulletin
        #: Where clients find it.
        self.socket_file = socket_file
        self._own: OwnSocket | None = None
        if handed is None:
            try:
                self._own = OwnSocket(socket_file, BACKLOG, everybody=served != NOBODY)
            except NotOurs as error:
                raise ConfigError(f"[node] socket: {error}", hint=_OTHER_SOCKET) from None
            except FileExistsError as error:
                raise NodeRunsAlready(str(error), hint=_OTHER_NODE) from None
            except OSError as error:
                raise ConfigError(
                    f"[node] socket: the node cannot listen at {socket_file}: "
                    f"{error.strerror or error}",
                    hint=_OTHER_SOCKET,
                ) from error
            handed = self._own.listener
        gauges = Gauges(service=service, bulletin=bulletin, release=release, clock=clock)
        self.server = NodeServer(
            listener=handed,
            answers=Answers(bulletin, gauges),
            service=service,
            bulletin=bulletin,
            doorkeeper=Doorkeeper(
                served=served,
                fingerprint=fingerprint,
                release=release,
                most_connections=min(MOST_CONNECTIONS, most_descriptors() // 4),
            ),
            called_back=recalls.take,
        )
        recalls.server = gauges.server = self.server
        self._gauges = gauges
        self._read_access = read_access
        #: Where other hosts come in; None where they do not.
        self.door: HttpDoor | None = None
        try:
            self.door = gauges.door = None if open_door is None else open_door(self._metrics)
        except BaseException:
            self.server.close()
            self._let_go()
            raise
        self.server.start()
        _log.info("the node is ready", extra={"socket": str(socket_file)})

    def facts(self, viewer: int | None = None) -> NodeFacts:
        """What it is and does now; as far as the user `viewer` is told, None for all of it."""
        return self._gauges.facts(viewer)

    def exposition(self) -> tuple[bytes, str]:
        """The same for Prometheus, the text and its content type. Raises ConfigError where the
        extra `http` is not installed."""
        try:
            from headrace_cache.node.metrics import exposition  # who shows none needs no library
        except ImportError as error:
            raise ConfigError(
                f"metrics for Prometheus need {error.name}", hint="pip install 'headrace[http]'"
            ) from error
        return exposition(self.facts())

    def _metrics(self) -> str:
        return self.exposition()[0].decode()

    def renew(self) -> None:
        """Read tokens and certificates of the door anew. Where they cannot be used, those before
        stay in force, and the log says so."""
        if self.door is None or self._read_access is None:
            return
        try:
            self.door.renew(self._read_access())
        except ConfigError as error:
            _log.warning("the tokens and certificates before stay in force: %s", error)
        else:
            _log.info("tokens and certificates were read anew")

    def close(self) -> None:
        """Take no more requests, answer those under way, and let go of everything."""
        _log.info("the node ends", extra={"clients": self.server.clients})
        self._let_go()  # first: who comes now uses a cache of his own
        if self.door is not None:
            self.door.close()
        self.server.close()
        self._service.close()
        self._bulletin.close()
        _log.info("the node has ended", extra={"answered": self.server.answered})

    def _let_go(self) -> None:
        if self._own is not None:
            self._own.let_go()


def handed_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd listens on for us (socket activation); None where there is none.

    Raises ConfigError where it is of another kind than the node's.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    handed = socket.socket(fileno=_FIRST_HANDED)
    os.set_inheritable(_FIRST_HANDED, False)
    if (handed.family, handed.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        raise ConfigError(
            "the socket that was handed over is of another kind than the node's",
            hint="the socket unit must say ListenSequentialPacket=",
        )
    return handed


def status_line(facts: NodeFacts) -> str:
    """The node in one line, as `systemctl status` shows it."""
    tiers = ", ".join(
        f"{name} {tier.used / tier.limit:.0%} of {format_bytes(tier.limit)}"
        for name, tier in facts.status.tiers.items()
        if tier.limit
    )
    said = f"clients {facts.clients}, {format_bytes(facts.lent_bytes)} lent; {tiers}"
    return said + ("; the policy file is broken, all is denied" if facts.policy.broken else "")


class ServiceManager:
    """Tells systemd how the node is (sd_notify(3)); without systemd it tells nobody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        #: Whether it hears what it is told.
        self.listens = bool(self._address)
        microseconds = environ.get("WATCHDOG_USEC", "")
        #: How often to say that the node lives; None where nobody waits for it.
        self.watchdog_seconds = int(microseconds) / 2e6 if microseconds.isdecimal() else None

    def tell(self, state: str) -> None:
        """`READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=...`."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told,
        ):
            told.sendto(state.encode(), address)
