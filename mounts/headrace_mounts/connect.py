"""One service for each configuration in a process: the only place that keeps services.

A process may name one configuration in many ways: an fsspec instance, a pickled copy of it, a
`connect()` of its own. They must share one service, or the memory bound would be counted anew for
each. That, and that a fork and the end of the process must reach every service, is why this room
holds what the house otherwise has none of: a table for the whole process.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_cache import node_opening
from headrace_cache.node_opening import NodeIdentity, open_by_node
from headrace_cache.service import CacheService
from headrace_mounts.settings import Settings, load_remote, load_settings
from headrace_namespace.clock import SystemClock
from headrace_namespace.errors import ConfigError, HeadraceError

if TYPE_CHECKING:
    from headrace_cache.node.daemon import Node
    from headrace_cache.remote.node_watch import NodeWatch

#: What a configuration may be given as: a file's path, its content as a dict, or nothing (found
#: by itself).
Config = str | os.PathLike[str] | Mapping[str, object] | None

_services: dict[str, CacheService] = {}
_lock = threading.Lock()


def connect(config: Config = None) -> CacheService:
    """The service for this configuration, made at the first call and shared by all later ones.

    It is closed when the process ends. Raises ConfigError.
    """
    settings = load_settings(config)
    with _lock:
        service = _services.get(settings.fingerprint)
        if service is None:
            service = open_by_node(
                settings.mounts,
                settings.cache,
                settings.policy,
                settings.context,
                _identity(settings),
            )
            _services[settings.fingerprint] = service
        return service


def connect_any(config: Config, node: str | None, given: Mapping[str, object]) -> CacheService:
    """The service of this host's tree, or where a `node` of another host is named, of that, which
    `given` says how to reach. Raises ConfigError."""
    if node is not None:
        return connect_node(node, given, config)
    if given:
        raise ConfigError(
            f"{', '.join(sorted(given))} says how to reach a node, and none is named",
            hint="give node, or write the URL as headrace://host:port/…",
        )
    return connect(config)


def connect_node(node: str, given: Mapping[str, object], config: Config = None) -> CacheService:
    """The service of a node of another host, at `host:port`, shared as that of `connect`.

    `given` are the keys of a `[[remote]]`, and `token`; what it does not say is looked for in the
    configuration, where there is one. Asks nobody yet. Raises ConfigError.
    """
    texts = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items()
    }
    address = load_remote(node, texts, config)
    told = f"{address!r} {address.token}".encode()
    fingerprint = f"remote {hashlib.sha256(told).hexdigest()}"
    with _lock:
        service = _services.get(fingerprint)
        if service is None:
            service = _services[fingerprint] = node_opening.open_remote(
                address, release(), SystemClock()
            )
        return service


def open_node(config: Config = None) -> Node:
    """The node of this host for this configuration: a cache that other processes use, until it is
    closed. It is no service of this process. Raises ConfigError, OSError."""
    settings = load_settings(config)
    http = settings.node.http
    return node_opening.open_node(
        settings.mounts,
        settings.cache,
        settings.policy,
        settings.context,
        _identity(settings),
        None if http is None else functools.partial(http.access, settings.context.environ),
    )


def check_node(config: Config = None) -> Path:
    """The socket of the node that serves this configuration now, and answers.

    Raises ConfigError where the node there serves another one, and StoreUnavailable where there is
    none, or none that answers within some seconds.
    """
    settings = load_settings(config)
    node_opening.check_node(_identity(settings))
    return settings.node.socket


def why_by_itself(config: Config = None) -> str:
    """Why a process of this host is served by no node, in words. Raises ConfigError for a wrong
    configuration alone."""
    settings = load_settings(config)
    try:
        node_opening.check_node(_identity(settings))
    except HeadraceError as error:
        return error.message
    return f"the node at {settings.node.socket} had not begun yet, or has just come back"


def watch_node(config: Config = None) -> NodeWatch:
    """The node that serves this configuration, to be looked at; it need not be there yet.

    Raises ConfigError.
    """
    return node_opening.watch_node(_identity(load_settings(config)))


def _identity(settings: Settings) -> NodeIdentity:
    node = settings.node
    return NodeIdentity(node.socket, settings.node_fingerprint, node.served, node.user, release)


def release() -> str:
    """Which headrace this is."""
    from importlib.metadata import version  # some milliseconds, for those alone who have a node

    return version("headrace")


def disconnect_all() -> None:
    """Close every service of this process; the next `connect` makes new ones."""
    with _lock:
        services = list(_services.values())
        _services.clear()
    for service in services:
        service.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for service in _services.values():
        service.after_fork_in_child()


atexit.register(disconnect_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
