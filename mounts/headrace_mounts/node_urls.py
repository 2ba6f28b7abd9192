"""The URL of an object at a node of another host: `headrace://host:port/path`. Pure."""

from __future__ import annotations

from headrace_mounts.remote_settings import host_and_port
from headrace_namespace.path import SCHEME

_PREFIX = f"{SCHEME}://"


def node_in(url: str) -> str | None:
    """The `host:port` in a URL; None where it names no node, or what is none."""
    if not url.startswith(_PREFIX):
        return None
    authority = url[len(_PREFIX) :].partition("/")[0]
    return authority if host_and_port(authority) is not None else None


def without_node(url: str) -> str:
    """The same without its node."""
    node = node_in(url)
    return url if node is None else url[len(_PREFIX) + len(node) :] or "/"
