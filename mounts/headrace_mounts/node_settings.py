"""The `[node]` table of a configuration: where the node of this host is, who runs it, and whom it
serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace_cache.policy.audience import NOBODY, Admitted, Audience
from headrace_cache.policy.names import name_in, names_in
from headrace_cache.principals import number_of_user
from headrace_mounts.remote_settings import HttpDeclaration
from headrace_namespace.config import Table


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Where the node of this host listens, if one runs; whom it serves beside its own user and
    root; and which user, beside a client's own and root, may run it (None: no other)."""

    socket: Path
    served: Audience
    user: int | None
    #: Where it listens for other hosts, and whom of them it admits; None: it does not.
    http: HttpDeclaration | None


def read_node(table: Table, socket: Path, http: HttpDeclaration | None) -> NodeSettings:
    """What the table says, its `socket` and its `http` aside. Raises ConfigError."""
    users, groups = names_in(table, "users"), names_in(table, "groups")
    served = Audience(frozenset([Admitted(users, groups)])) if users or groups else NOBODY
    user = None
    if "user" in table:
        name = name_in(table, "user", "")
        user = number_of_user(name)
        if user is None:
            raise table.error("user", f"this system has no user {name!r}")
    table.done()
    return NodeSettings(socket, served, user, http)
