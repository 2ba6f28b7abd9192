"""How many requests a mount's own options want to be made, for those who dress its backend."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from headrace_namespace.backends.limit import MOST_REQUESTS
from headrace_namespace.backends.protocol import Backend
from headrace_namespace.backends.retry import RetryPolicy


@runtime_checkable
class LimitsRequests(Protocol):
    """A backend whose options bound its requests."""

    @property
    def max_attempts(self) -> int:
        """How often one request is made at most."""
        ...

    @property
    def max_connections(self) -> int:
        """How many requests are made at once at most."""
        ...


def attempts_of(backend: Backend) -> int:
    """How often one request to this store is made at most."""
    return backend.max_attempts if isinstance(backend, LimitsRequests) else RetryPolicy().attempts


def simultaneous_of(backend: Backend) -> int:
    """How many requests this store gets at once at most."""
    return backend.max_connections if isinstance(backend, LimitsRequests) else MOST_REQUESTS
