"""Who may reach a node from other hosts, and how a client reaches one: values, checked already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from headrace_cache.policy.audience import Principal
from headrace_namespace.endpoint import Endpoint

#: A shorter token could be guessed.
LEAST_TOKEN_CHARACTERS = 16


def token_digest(token: str) -> bytes:
    """What is kept of a token to compare by: of one length, whatever is shown."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class KnownClient:
    """One client that a node admits: what it must show, all of it, and whom it stands for."""

    name: str
    token: bytes | None = field(repr=False)
    certificate_name: str | None
    principal: Principal


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """Where a node listens for other hosts, by which certificate, and whom it admits.

    Without `certificate` it speaks plain HTTP. Without `clients` everybody is nobody known.
    """

    host: str
    port: int
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    clients: tuple[KnownClient, ...]


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node of another host, and what this client shows and trusts there."""

    endpoint: Endpoint
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def authority(self) -> str:
        """`host:port`, as users write it."""
        host = self.endpoint.host
        return f"[{host}]:{self.endpoint.port}" if ":" in host else f"{host}:{self.endpoint.port}"
