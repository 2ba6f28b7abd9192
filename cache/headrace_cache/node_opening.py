"""Where a node is put together, and what reaches one: of this host, or of another.

Jobs without a node do not load what only a node or its clients need (20 ms): it is imported where
it is built.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_cache.access import HttpAccess, NodeAddress
from headrace_cache.backing import most_descriptors, raise_descriptors
from headrace_cache.limits import CacheSettings, PolicySource
from headrace_cache.local_service import LocalService
from headrace_cache.opening import Sharing, built_parts, open_service
from headrace_cache.policy.audience import Audience
from headrace_cache.policy.watch import PolicyWatch
from headrace_cache.principals import unknown_names
from headrace_cache.service import CacheService
from headrace_namespace.clock import Clock
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.errors import (
    AccessRefused,
    ConfigError,
    HeadraceError,
    StoreUnavailable,
)
from headrace_namespace.metadata.memory import MemoryMetadata

if TYPE_CHECKING:
    from headrace_cache.node.daemon import Node
    from headrace_cache.node.http.door import HttpDoor
    from headrace_cache.remote.node_watch import NodeWatch

_log = logging.getLogger(__name__)

#: With fewer, a node has less than 256 connections and 200 extents.
FEW_DESCRIPTORS = 1024


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Where this host's node is found, and what it and its clients must have in common."""

    socket_file: Path
    fingerprint: str
    #: Whom the node serves beside its own user and root.
    served: Audience
    #: By which user, beside their own and root, clients let themselves be served; None for no
    #: other.
    user: int | None
    #: Asked only where there is a node: it takes some milliseconds.
    release: Callable[[], str]


def open_node(
    mounts: Sequence[MountDeclaration],
    cache: CacheSettings,
    policy: PolicySource | None,
    context: BackendContext,
    identity: NodeIdentity,
    access: Callable[[], HttpAccess] | None = None,
) -> Node:
    """A cache over these mounts that other processes of this host use, serving already; by
    `access` those of other hosts too. Raises ConfigError, also for its socket, and OSError."""
    from headrace_cache.node.daemon import Node, NodeRunsAlready, Recalls, handed_socket
    from headrace_cache.wire.bulletin import Bulletin

    if sys.platform != "linux":
        raise ConfigError("a node runs on Linux alone", hint="jobs work without one")
    raise_descriptors()
    if most_descriptors() < FEW_DESCRIPTORS:
        _log.warning(
            "this node may have %s files open, and so few connections and extents: raise ulimit -n",
            most_descriptors(),
        )
    for name in unknown_names(identity.served):
        _log.warning("[node] serves %s, whom this system does not know: he is not admitted", name)
    watch = PolicyWatch(policy, context.clock)
    recalls, bulletin = Recalls(), Bulletin()
    sharing = Sharing(recalls.add, bulletin.publish, bulletin.publish_changes)
    build = functools.partial(
        built_parts, tuple(mounts), cache, watch, MemoryMetadata(), context, sharing
    )
    service = LocalService(build)
    try:
        return Node(
            service=service,
            recalls=recalls,
            bulletin=bulletin,
            socket_file=identity.socket_file,
            handed=handed_socket(context.environ),
            fingerprint=identity.fingerprint,
            release=identity.release(),
            served=identity.served,
            clock=context.clock,
            open_door=_door_for(service, access, identity.release),
            read_access=access,
        )
    except BaseException as error:
        service.close()
        bulletin.close()
        if isinstance(error, NodeRunsAlready):
            raise _as_it_answers(error, identity) from None
        raise


def _as_it_answers(error: ConfigError, identity: NodeIdentity) -> ConfigError:
    """That a node runs already; and where it is one of another configuration, that."""
    try:
        check_node(identity)
    except ConfigError as other:
        return ConfigError(f"{error.message}: {other.message}", hint="name another [node] socket")
    except (HeadraceError, OSError):
        return error
    return error


def open_remote(address: NodeAddress, release: str, clock: Clock) -> CacheService:
    """The cache of a node of another host; nobody is asked yet. Raises ConfigError."""
    from headrace_cache.remote.http_service import HttpNodeService

    return HttpNodeService(address, release, clock)


def _door_for(
    service: LocalService, access: Callable[[], HttpAccess] | None, release: Callable[[], str]
) -> Callable[[Callable[[], str]], HttpDoor] | None:
    if access is None:
        return None
    try:
        from headrace_cache.node.http.door import HttpDoor
    except ImportError as error:
        raise ConfigError(
            f"[node.http] needs what is not installed here: {error.name}",
            hint="pip install 'headrace[http]'",
        ) from error
    admitted = access()
    return lambda metrics: HttpDoor(
        service=service, access=admitted, release=release(), metrics=metrics
    )


def open_by_node(
    mounts: Sequence[MountDeclaration],
    cache: CacheSettings,
    policy: PolicySource | None,
    context: BackendContext,
    identity: NodeIdentity,
) -> CacheService:
    """The cache of this host's node where one runs that serves this configuration, else one of this
    process. Raises ConfigError."""
    own = functools.partial(open_service, mounts, cache, policy, context)
    try:
        if sys.platform != "linux" or not identity.socket_file.exists():
            return own()
    except OSError:  # somebody else's folder
        return own()
    from headrace_cache.remote.connection import NodeGone
    from headrace_cache.remote.node_service import NodeService

    try:
        return NodeService(
            identity.socket_file,
            identity.release(),
            identity.fingerprint,
            own,
            context.clock,
            by_user=identity.user,
            # As much as a cache of this process would take, where no node were there.
            most_copied_bytes=cache.memory_bytes,
        )
    except (NodeGone, HeadraceError) as error:
        # Who is refused would otherwise wonder why nothing is shared; the rest is as it may be.
        level = logging.WARNING if isinstance(error, AccessRefused) else logging.INFO
        _log.log(level, "using a cache of this process: %s", error)
        return own()


def check_node(identity: NodeIdentity) -> None:
    """Begin a session with the node, and end it. Raises ConfigError where it serves another
    configuration, and StoreUnavailable where none is there, or none that answers."""
    from headrace_cache.remote.connection import NodeConnection, NodeGone

    try:
        NodeConnection(
            identity.socket_file, identity.release(), identity.fingerprint, identity.user
        ).close()
    except NodeGone as error:
        raise StoreUnavailable(str(error), hint=error.hint) from error


def watch_node(identity: NodeIdentity) -> NodeWatch:
    """The node of this host, to be looked at; it need not be there yet."""
    from headrace_cache.remote.node_watch import NodeWatch

    return NodeWatch(identity.socket_file, identity.release(), identity.fingerprint, identity.user)
